"""Fill Feast's online store from ``values.parquet``: one view of all features, and the same in several views."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feast_repository import BEGIN, END, open_store, pinned, say, service, view


def main(directory: str, online: str, floats: int, views: int) -> None:
    place = Path(directory)
    store = open_store(place / f"feast-{'sqlite' if online == 'sqlite' else 'redis'}", online)
    names = [f"f{i}" for i in range(floats)]
    forever = timedelta(days=10_000)
    entity, whole = view("whole", "entity", place / "values.parquet", names, forever)
    each = floats // views
    parts = [
        view(f"part{n}", "entity", place / "values.parquet", names[n * each : (n + 1) * each], forever)[1]
        for n in range(views)
    ]
    services = [service("one", [whole]), service("several", parts)]
    if online != "sqlite":  # precomputed vectors need a store that can list its entities
        services += [service("one_vector", [whole], True), service("several_vector", parts, True)]
    store.apply([entity, whole, *parts, *services])
    store.materialize(BEGIN, END)
    say()


main(*pinned())
