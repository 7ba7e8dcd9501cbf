"""The speed measurements of headway: `make bench`, or `python benchmarks/run.py [MEASURE…] [--quick | --write]`.

Every measure runs headway and a floor in the same run: the same work, written by hand against the same libraries with
nothing around it. Figures are medians over rounds in which the contenders take turns.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import drift
import history
import materialize
import online
import prediction
import scale
import steps
import windows
from harness import Section
from machine import busy, described, versions

import console
from headway.clock import WallClock, to_iso

MEASURES: dict[str, Callable[[Path, bool], Section]] = {
    "online": online.measure,
    "materialize": materialize.measure,
    "history": history.measure,
    "scale": scale.measure,
    "windows": windows.measure,
    "prediction": prediction.measure,
    "drift": drift.measure,
    "steps": steps.measure,
    "console": console.measure,
}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PACKAGES = ("numpy", "pyarrow", "duckdb", "polars", "lmdb", "lightgbm", "msgspec", "uvicorn", "uvloop", "httptools")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure headway beside what is possible on this machine.")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few rounds, small data: to see that all works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md as well")
    asked = parser.parse_args()
    if unknown := [name for name in asked.measures if name not in MEASURES]:
        parser.error(f"no measure is called {unknown[0]!r}; there are {', '.join(MEASURES)}")
    if asked.write and (asked.quick or asked.measures):
        parser.error("--write keeps the figures of a whole run; leave out --quick and the measures")
    begin, load = perf_counter(), busy()
    parts = []
    for name in asked.measures or MEASURES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
            parts.append(MEASURES[name](Path(directory), asked.quick).markdown())
    text = "\n".join([_head(asked.quick, load, perf_counter() - begin), *parts])
    print(text, end="")
    if asked.write:
        PAGE.write_text(text)
        print(f"written to {PAGE}", file=sys.stderr)


def _head(quick: bool, load: str, seconds: float) -> str:
    today = to_iso(WallClock().now())[:10]
    command = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    lines = [
        "# How fast",
        "",
        f"Measured {today} by `{command}` in {seconds:.0f} s; this page is its output. Each table is one run of",
        "headway and a floor side by side: the same work written by hand against the same libraries, with nothing",
        "around it. Other products run in environments of their own, from hashed requirements. The feature store",
        "beside Feast has [a page of its own](benchmarks-features.md).",
        "",
        described(load),
        versions(PACKAGES),
        "",
    ]
    if quick:
        lines += ["**A quick run: few rounds and small data. Its figures are not to be relied on.**", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
