"""What serving needs of the stages below, as small as it is: features to look up, versions to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from headway.define.records import VersionRecord, ViewPlan
from headway.metadata import PublishedFeatures


class OkRow(Protocol):
    """A single row whose values are all ok."""

    @property
    def as_of(self) -> int:
        """The moment the values speak for."""

    @property
    def values(self) -> tuple[float, ...]:
        """One number per feature; NaN where null, and for what is no number."""


class Found(Protocol):
    """Features of some entities, in the order asked: ``headway.data.online.OnlineColumns``.

    ``state`` is uint8 [rows, features], an index into the words of ``records.State``; 0 is ok.
    """

    as_of: np.ndarray  # int64 [rows]; BEGINNING where no refresh has been
    state: np.ndarray
    null: np.ndarray  # bool [rows, features]

    @property
    def ok_row(self) -> OkRow | None:
        """The row as plain numbers, if it is a single one that is all ok; None if that is not plain to see."""

    def floats(self) -> np.ndarray:
        """float64 [rows, features], NaN where null; numbers and truth values only."""

    def column(self, name: str) -> np.ndarray:
        """One feature as numpy: texts as objects with None, anything else in the type it is stored as, times as
        integers of their unit, where what is null is anything."""

    def matrix(self, name: str) -> np.ndarray:
        """A list of numbers as float64 [rows, items], NaN where an item or the whole list is null."""

    def array(self, name: str) -> pa.Array:
        """One feature as Arrow, of its own type."""

    def matrices(self) -> Iterable[tuple[list[int], np.ndarray]]:
        """The values of fixed width, by type, as Arrow has them: which features they are of, and a row for each."""


class BoundView(Protocol):
    """Features of a view, ready to be read."""

    @property
    def schema(self) -> pa.Schema:
        """The features and their Arrow types."""

    def encode(self, keys: Mapping[str, Sequence[Any]]) -> Sequence[bytes | None]:
        """The store's key of each entity, in order."""


class FeatureReader(Protocol):
    """Reads features from an online store: ``headway.data.online.OnlineReader``. Any thread may use it."""

    def bind(self, plan: ViewPlan, features: Sequence[str] | None = None) -> Any:
        """A ``BoundView`` of these features, in this order."""

    def lookup_many(self, asked: Sequence[tuple[Any, Sequence[bytes | None]]], now: int) -> Sequence[Any]:
        """A ``Found`` for each bound view and its keys, all from one question to the store."""


class Catalogue(Protocol):
    """Which versions and features answer, and where files are. Called from one thread, not the event loop's."""

    def last_change(self) -> int:
        """A number that grows with every decision about what is live. Asked four times a second."""

    def models(self) -> Sequence[str]:
        """All models that have a version, live or not."""

    def live(self) -> Mapping[str, Mapping[str | None, VersionRecord]]:
        """For each model, the version that answers for a segment; None stands for every other segment."""

    def last_published(self) -> int:
        """A number that grows with every change of what names of views and sets stand for. Asked twice a second."""

    def features(self) -> PublishedFeatures:
        """The views and sets that can be read by name."""

    def directory(self, record: VersionRecord) -> Path:
        """Where a version's files are."""

    def verify_files(self, record: VersionRecord) -> None:
        """Raise ``ArtifactError`` if a file is missing or was changed since it was recorded."""


class RowSink(Protocol):
    """Takes rows for the sources that rows are pushed to; any thread may call it."""

    def push(self, source: str, columns: Mapping[str, Any]) -> int:
        """Have rows on the disk, all or none; how many. ``columns`` has Arrow arrays, or values as JSON has them.

        Raises ``NotFoundError``, ``UsageError``, ``DataError`` or ``StoreError``; nothing is kept then.
        """

    def close(self) -> None:
        """Let go of files."""
