"""A process that has imported everything and forks a child for each command, so that a child is at work at once and
can be killed there. Run as a script; see ``Warm`` in ``test_kill``.

Reads lines of JSON, a folder and arguments (of the command line, or "push" and those of ``push``); answers each with the child's process id, then with its wait status.
"""

import importlib
import json
import os
import sys

HEAVY = (
    "headway.project",
    "headway.cli",
    "headway.orchestrate.unchanged",
    "headway.data.online.lmdb",
    "headway.data.online.redis",
    "headway.data.ingest._files",
    "headway.data.ingest._put",
    "headway.data.lake._commit",
    "headway.data.engine._duckdb",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "skops.io",
    "mlflow",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)


def push(env: str, source: str, first: str, count: str) -> None:
    """Push rows one by one, and write down the number of each that was acknowledged."""
    import headway

    with headway.load(".", env=env) as project, open(f"pushed-{env}", "ab", buffering=0) as told:  # noqa: PTH123
        for n in range(int(first), int(first) + int(count)):
            project.push(source, {"user": [n % 5], "n": [n], "at": ["2024-02-20T00:00:00Z"]})
            told.write(f"{n}\n".encode())
    os._exit(0)


def child(folder: str, arguments: list[str]) -> None:
    """Run one command in a process group of its own."""
    os.setsid()
    os.write(1, f"{os.getpid()}\n".encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    os.chdir(folder)
    sys.argv = ["headway", *arguments]
    code = 1
    try:
        if arguments[0] == "push":
            push(*arguments[1:])
        else:
            importlib.import_module("headway.cli").main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    os.write(1, b"ready\n")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(*json.loads(line))
        _, status = os.waitpid(pid, 0)
        os.write(1, f"{status}\n".encode())
