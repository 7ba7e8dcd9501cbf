"""The feature store beside Feast and hand-written floors: `make bench-features`, or
`python benchmarks/features.py [--only MEASURE] [--quick] [--write [FOLDER]]`.

Feast, with its Redis and DuckDB extras, runs in an environment of its own, from hashed requirements; a Redis of the
run's own listens on the loopback. All contenders do the same work in one run, and what they answer is compared.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import features_history
import features_http
import features_materialize
import features_reads
from environments import HERE, environment
from features_report import Answer, overview, plot
from features_work import World, redis_server
from harness import SERVER
from machine import busy, described, versions

from headway.clock import WallClock, to_iso

# In an order in which none empties the stores that a later one reads from.
MEASURES: dict[str, Callable[[World, bool], Answer]] = {
    "reads": features_reads.measure,
    "http": features_http.measure,
    "materialize": features_materialize.measure,
    "history": features_history.measure,
}
DOCS = HERE.parent / "docs"
PAGE, IMAGE = "benchmarks-features.md", "benchmarks-features.svg"
PACKAGES = ("numpy", "pyarrow", "duckdb", "polars", "lmdb", "redis", "hiredis", "orjson", "msgspec", "uvicorn")
PEERS = ("feast", "pandas", "pyarrow", "dask", "duckdb", "ibis-framework", "redis", "protobuf", "fastapi", "uvicorn")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the feature store beside Feast and by hand.")
    parser.add_argument("--only", action="append", choices=MEASURES, help="one measure; may be given several times")
    parser.add_argument("--quick", action="store_true", help="few rounds, small data: to see that all works")
    parser.add_argument(
        "--write",
        nargs="?",
        const=str(DOCS),
        metavar="FOLDER",
        help="write the page and its picture as well, into docs or into another folder",
    )
    asked = parser.parse_args()
    if asked.write == str(DOCS) and (asked.quick or asked.only):
        parser.error("--write keeps the figures of a whole run; leave out --quick and --only, or name another folder")
    begin, load = perf_counter(), busy()
    feast = environment("feast")
    if feast is None:
        print("Feast's environment cannot be made: headway and the floors are measured alone", file=sys.stderr)
    found = Answer()
    with tempfile.TemporaryDirectory(prefix="headway-bench-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        with redis_server(place) as redis:
            world = World(place, feast, redis)
            for name in [name for name in MEASURES if name in (asked.only or MEASURES)]:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                part = MEASURES[name](world, asked.quick)
                found.sections += part.sections
                found.claims += part.claims
            head = _head(world, quick=asked.quick, load=load, seconds=perf_counter() - begin)
    text = "\n".join([*head, _at_a_glance(found), *(section.markdown() for section in found.sections)])
    print(text, end="")
    if asked.write:
        _write(Path(asked.write), text, plot(found.claims, _caption(asked.quick)))


def _write(folder: Path, page: str, picture: str) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images" / IMAGE).write_text(picture)
    (folder / PAGE).write_text(page)
    print(f"written to {folder / PAGE} and {folder / 'images' / IMAGE}", file=sys.stderr)


def _head(world: World, *, quick: bool, load: str, seconds: float) -> Sequence[str]:
    command = shlex.join(["python", "benchmarks/features.py", *sys.argv[1:]])
    if quick:
        warning = ["**A quick run: few rounds and small data. Its figures are not to be relied on.**", ""]
    else:
        warning = []
    return [
        "# How fast the feature store is",
        "",
        f"Measured {_today()} by `{command}` in {seconds:.0f} s; this page is its output. headway, Feast",
        "and hand-written floors do the same work side by side in one run, in processes of their own, and what they",
        "answer is compared. Feast runs in an environment of its own, as fast as its documentation says how.",
        "",
        described(load),
        versions(PACKAGES),
        f"- Feast's environment: {_peer_versions()}" if world.feast else "- Feast: left out, it could not be installed",
        f"- {world.redis_version}" if world.redis else "- Redis: left out, there is no redis-server here",
        f"- Server and client each have a core: {'yes' if len(os.sched_getaffinity(0)) > 1 and SERVER else 'no'}",
        "",
        *warning,
        f"![How many times slower than the same work by hand headway and Feast are](images/{IMAGE})",
        "",
    ]


def _at_a_glance(found: Answer) -> str:
    missed = [verdict for section in found.sections for verdict in section.verdicts if "✗" in verdict]
    return overview(found.claims, missed).markdown()


def _caption(quick: bool) -> str:
    what = "A quick run, not to be relied on" if quick else "One run on one machine"
    return f"{what}, {_today()}. Logarithmic scale; numbers on the lines: how many times faster than Feast headway is."


def _peer_versions() -> str:
    """What Feast was measured with, as its requirements pin it."""
    pinned = (HERE / "peers" / "requirements-feast.txt").read_text()
    found = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", pinned, re.MULTILINE))
    return ", ".join(f"{name} {found[name]}" for name in PEERS)


def _today() -> str:
    return to_iso(WallClock().now())[:10]


if __name__ == "__main__":
    main()
