"""``materialize`` of one view of a Parquet file of values: seconds and peak memory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import perf_counter

from feast_repository import BEGIN, END, open_store, peak_mb, pinned, say, view


def main(directory: str, values: str, online: str, floats: int) -> None:
    place = Path(directory)
    for file, name in ((place / "few.parquet", "few"), (place / values, "all")):
        store = open_store(place / f"feast-{'sqlite' if online == 'sqlite' else 'redis'}-{name}", online)
        declared = view(name, "entity", file, [f"f{i}" for i in range(floats)], timedelta(days=10_000))
        store.apply(list(declared))
        before = peak_mb()
        begin = perf_counter()
        store.materialize(BEGIN, END)
        seconds = perf_counter() - begin
    say(seconds=seconds, before_mb=before)  # of the second: what loads at the first use is not counted


main(*pinned())
