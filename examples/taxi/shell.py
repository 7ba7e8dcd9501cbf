"""What the parts of the demo share: where it works, and running commands as a person would."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / ".demo" / "trips"
HEADWAY = str(Path(sys.executable).with_name("headway"))


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def run(*arguments: str, allowed: tuple[int, ...] = (0,)) -> int:
    """A headway command; how long it took. Ends the demo if it ended as it should not."""
    print(f"$ headway {' '.join(f'{a!r}' if ' ' in a else a for a in arguments)}", flush=True)
    begun = time.perf_counter()
    done = subprocess.run([HEADWAY, *arguments], cwd=WORK, check=False)
    if done.returncode not in allowed:
        raise SystemExit(f"headway {' '.join(arguments)} ended with {done.returncode}")
    print(f"({time.perf_counter() - begun:.1f} s)", flush=True)
    return done.returncode


def replace(file: str, old: str, new: str) -> None:
    """Change one place of a file of the project, as an editor would."""
    path = WORK / file
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{old!r} is {text.count(old)} times in {file}")
    path.write_text(text.replace(old, new))
