"""A small project for one case: declarations as text, rows as literals, a clock that moves when it is told to.

``hw.Entity("who", key="k")`` and ``hw.Entity("pair", key=("a", "b"))`` are there without being declared.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import headway as hw
from headway.clock import from_iso
from headway.metadata import open_metadata
from headway.project import Project

DAY = "2024-01-10"
INSTANT, NAIVE = pa.timestamp("us", "UTC"), pa.timestamp("us")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = """
import headway as hw

who = hw.Entity("who", key="k")
pair = hw.Entity("pair", key=("a", "b"))
"""


def t(text: str) -> datetime:
    """An instant in UTC: a time of 10 January 2024, or any other as ISO text.

    >>> t("09:30") == t("2024-01-10T09:30") == t("2024-01-10T10:30+01:00")
    True
    """
    moment = datetime.fromisoformat(text if "T" in text else f"{DAY}T{text}")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def us(text: str) -> int:
    """``t`` in microseconds since 1970."""
    return from_iso(t(text).isoformat())


def naive(text: str) -> datetime:
    """A local time without a zone."""
    return datetime.fromisoformat(text if "T" in text else f"{DAY}T{text}")


def table(columns: str, *rows: Sequence[Any], **types: pa.DataType) -> pa.Table:
    """A table of literal rows; ``types`` for columns whose values do not tell.

    >>> table("k x", (1, 2.5), (2, None)).num_rows
    2
    """
    names = columns.split()
    found: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    assert len(found) == len(names)
    return pa.table({name: pa.array(values, types.get(name)) for name, values in zip(names, found, strict=True)})


@dataclass
class Hand:
    """A clock that goes when it is told to."""

    instant: int

    def now(self) -> int:
        return self.instant


@dataclass
class Lab:
    """The project, and short ways to ask it."""

    root: Path
    clock: Hand
    env: str | None = None
    project: Project = field(init=False)

    def declare(self, declared: str) -> None:
        """Write the declarations, in place of any there were, and open the project."""
        (self.root / "lab").mkdir(parents=True, exist_ok=True)
        (self.root / "lab" / "__init__.py").write_text(_HEAD + textwrap.dedent(declared))
        sys.modules.pop("lab", None)
        self.close()
        self.project = hw.load(self.root, env=self.env, clock=self.clock)

    def close(self) -> None:
        if hasattr(self, "project"):
            self.project.close()

    def put(self, **tables: pa.Table) -> None:
        """Write the files of sources (``name`` is data/name.parquet) and copy them into the lake."""
        self.write(**tables)
        self.project.run(*[source.name for source in self.project.declarations.sources.values() if source.path])

    def write(self, **tables: pa.Table) -> None:
        """Write files, and leave the lake as it is."""
        (self.root / "data").mkdir(exist_ok=True)
        for name, rows in tables.items():
            pq.write_table(rows, self.root / "data" / f"{name}.parquet")

    def now(self, text: str) -> None:
        """Move the clock."""
        self.clock.instant = us(text)

    def past(self, views: Any, *asked: Sequence[Any], keys: str = "k") -> list[Any]:
        """Training values for rows of keys and an instant: one value per row, or a tuple where there are several."""
        spine = table(f"{keys} ts", *asked, ts=INSTANT)
        found = self.project.features.historical(spine, views)
        assert found.select(spine.column_names).equals(spine)
        return _rows(found.select(found.column_names[spine.num_columns :]))

    def refresh(self, *views: str) -> list[str]:
        """Materialize, and say what came of each view."""
        return [done.outcome for done in self.project.features.materialize(list(views))]

    def served(self, view: str, *keys: Any, name: str = "k") -> list[Any]:
        """Served values, one per key, or a tuple where the view has several features."""
        return [value for value, _ in self.stated(view, *keys, name=name)]

    def stated(self, view: str, *keys: Any, name: str = "k") -> list[tuple[Any, Any]]:
        """Served values with their states."""
        found = self.project.online.read(view, {name: list(keys)})
        values = _rows(found.select([c for c in found.column_names if c.startswith(f"{view}__")]))
        states = [tuple(row.values()) for row in found.column("_state").to_pylist()]
        return list(zip(values, [s[0] if len(s) == 1 else s for s in states], strict=True))

    def as_of(self, view: str, *keys: Any) -> list[datetime | None]:
        """The moments that served values speak for."""
        found: list[datetime | None] = self.project.online.read(view, {"k": list(keys)}).column("_as_of").to_pylist()
        return found


def _rows(found: pa.Table) -> list[Any]:
    rows = [tuple(row.values()) for row in found.to_pylist()]
    return [row[0] for row in rows] if found.num_columns == 1 else rows


@contextlib.contextmanager
def lab(
    root: Path,
    declared: str,
    /,
    now: str = "2024-02-01T00:00",
    toml: str = "",
    env: str | None = None,
    **tables: pa.Table,
) -> Iterator[Lab]:
    """A project in ``root`` with these declarations; the files' rows are in the lake."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "headway.toml").write_text('[project]\nname = "lab"\ndefinitions = "lab"\n' + toml)
    if env is None:
        (root / ".headway" / "local").mkdir(parents=True)
        shutil.copy(_empty_metadata(), root / ".headway" / "local" / "metadata.db")
    made = Lab(root, Hand(us(now)), env)
    made.declare(declared)
    try:
        if tables:
            made.put(**tables)
        yield made
    finally:
        made.close()


@functools.cache
def _empty_metadata() -> Path:
    """Records of a project that has none yet: migrating to the newest tables takes longer than most cases here."""
    folder = Path(tempfile.mkdtemp(prefix="headway-lab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    open_metadata(f"sqlite:///{folder}/metadata.db", "lab", "local").close()
    return folder / "metadata.db"
