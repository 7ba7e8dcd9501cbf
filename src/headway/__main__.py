"""``python -m headway``: the command line, by the interpreter that runs it."""

from headway.cli import main

if __name__ == "__main__":
    main()
