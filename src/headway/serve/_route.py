"""Which version answers: a table that is never changed, only replaced by the next one.

A request takes the table once and keeps to it, so a swap needs no lock and loses no request; a version that is no
longer in the table goes when the last request that uses it has ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headway.define.records import State, VersionRecord, ViewPlan, ViewUse
from headway.errors import HeadwayError, ProjectCodeError
from headway.metadata import PublishedFeatures
from headway.serve._features import ServedFeatures, whole_view
from headway.serve._fields import missing_fields, segment_texts
from headway.serve._logged import Part
from headway.serve._predictor import Answer, LoadedVersion, merged_known
from headway.serve._problems import Refused
from headway.serve._protocols import Catalogue, FeatureReader
from headway.serve._scoring import Scoring

POLL_SECONDS = 0.25
_MODELS_EVERY = 8  # polls between two looks at the list of models, which matters to error messages only
_FEATURES_EVERY = 2  # polls between two looks at what names of views and sets stand for
_RETRY_EVERY = 20  # polls between two attempts to load what could not be loaded

log = logging.getLogger("headway.serve")


@dataclass(slots=True)
class Routed:
    """An answer with the version that gave each row, and the parts that it was put together from."""

    answer: Answer
    versions: list[str]
    parts: list[Part]


class ModelRoute:
    """A model's live versions by segment; None stands for every other segment."""

    def __init__(self, name: str, by_segment: Mapping[str | None, LoadedVersion]) -> None:
        self.name = name
        self.by_segment = dict(by_segment)
        self.versions = tuple(sorted(set(self.by_segment.values()), key=lambda v: v.record.version))
        self.known = merged_known(self.versions)
        self._only = self.by_segment[None] if set(self.by_segment) == {None} else None

    @property
    def newest(self) -> LoadedVersion:
        return self.versions[-1]

    def predict(self, given: Mapping[str, list[Any]], rows: int, now: int) -> Routed:
        """Answer rows of JSON values by field, each by the version that is live for its segment. Raises ``Refused``."""
        if self._only is not None:
            return _whole(self._only, given, rows, self._only.predict(given, rows, now))
        parts = self._parts(given)
        if len(parts) == 1:
            ((version, _),) = parts.items()
            return _whole(version, given, rows, version.predict(given, rows, now, self.known))
        return self._merged(given, rows, now, parts)

    def _parts(self, given: Mapping[str, list[Any]]) -> dict[LoadedVersion, list[int]]:
        """Version → the rows it answers."""
        name = next((v.plan.segment for v in reversed(self.versions) if v.plan.segment is not None), None)
        if name is None or name not in given:
            raise missing_fields([name or "segment"])
        found: dict[LoadedVersion, list[int]] = {}
        for row, segment in enumerate(_texts(given[name])):
            version = self.by_segment.get(segment) or self.by_segment.get(None)
            if version is None:
                raise Refused(409, f"no version of {self.name!r} is live for the segment of row {row}")
            found.setdefault(version, []).append(row)
        return found or {self.newest: []}

    def _merged(
        self, given: Mapping[str, list[Any]], rows: int, now: int, parts: Mapping[LoadedVersion, list[int]]
    ) -> Routed:
        whole = Answer([None] * rows, [None] * rows)
        versions = [""] * rows
        answered = []
        for version, chosen in parts.items():
            some = {name: [values[row] for row in chosen] for name, values in given.items()}
            answer = version.predict(some, len(chosen), now, self.known)
            _scatter(answer, chosen, whole, rows)
            answered.append(Part(version.maker, chosen, some, answer))
            for row in chosen:
                versions[row] = version.version
        return Routed(whole, versions, answered)


def _whole(version: LoadedVersion, given: Mapping[str, list[Any]], rows: int, answer: Answer) -> Routed:
    return Routed(answer, [version.version] * rows, [Part(version.maker, None, given, answer)])


def _texts(values: list[Any]) -> list[str | None]:
    """Segments of values that may be of any type; the version that gets the row refuses a wrong one."""
    if all(value is None or isinstance(value, str | int | float) for value in values):
        return segment_texts(values) if len({type(v) for v in values} - {type(None)}) < 2 else [None] * len(values)
    return [None] * len(values)


def _scatter(part: Answer, rows: Sequence[int], whole: Answer, total: int) -> None:
    for at, row in enumerate(rows):
        whole.predictions[row] = part.predictions[at]
        whole.segments[row] = part.segments[at]
    for prefix, as_of in part.as_of.items():
        before = whole.as_of.get(prefix, as_of)
        whole.as_of[prefix] = None if as_of is None or before is None else min(as_of, before)
    for name, states in part.states.items():
        merged = whole.states.setdefault(name, _all_ok(total))
        for at, row in enumerate(rows):
            merged[row] = states[at]
    whole.counts += part.counts


def _all_ok(rows: int) -> list[State]:
    return ["ok"] * rows


@dataclass(frozen=True, slots=True)
class Table:
    """All that the server answers with at a moment. ``failures`` says, by model, why a live version is not loaded."""

    models: Mapping[str, ModelRoute] = field(default_factory=dict)
    features: Mapping[str, ServedFeatures] = field(default_factory=dict)  # views and sets by name
    known: frozenset[str] = frozenset()
    live: frozenset[str] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)
    built: bool = False

    @property
    def ready(self) -> bool:
        """Whether requests can be answered: the live versions were looked at, and at least one of them works."""
        return self.built and (bool(self.models) or not self.live)


Loader = Callable[[VersionRecord], LoadedVersion]


def version_loader(
    catalogue: Catalogue, reader: FeatureReader, now: Callable[[], int], *, allow_pickle: bool = False
) -> Loader:
    """A function that checks a version's files, loads it and has it answer once."""

    def load(record: VersionRecord) -> LoadedVersion:
        catalogue.verify_files(record)
        scoring = Scoring.load(catalogue.directory(record), record.serving, allow_pickle=allow_pickle)
        loaded = LoadedVersion(record, scoring, reader)
        try:
            loaded.warm_up(now())
        except ProjectCodeError as error:
            # A row without values is nobody's request: the function may well answer real ones.
            log.warning("%s@%s answers no row of nulls: %s", record.model, record.version, error)
        return loaded

    return load


class Router:
    """Holds the table, and makes the next one when the catalogue has changed. ``refresh`` is for one thread only."""

    def __init__(
        self,
        catalogue: Catalogue,
        load: Loader,
        reader: FeatureReader,
        views: Iterable[ViewPlan] = (),
        on_swap: Callable[[Table], None] | None = None,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.table = Table()
        self._catalogue = catalogue
        self._load = load
        self._reader = reader
        self._published = PublishedFeatures({}, {})
        self._published_seen = -1
        self._in_table: PublishedFeatures | None = None
        self._declared = {view.name: view for view in views if view.online}
        self._on_swap = on_swap
        self._on_failure = on_failure
        self._seen = -1
        self._polls = 0

    def refresh(self) -> bool:
        """Look whether something changed, and swap the table if so. Raises ``HeadwayError`` if the look fails."""
        self._polls += 1
        failure = self._learn_features() if self._polls % _FEATURES_EVERY == 1 else None
        renamed = self._published is not self._in_table
        changed = self._catalogue.last_change()
        retry = bool(self.table.failures) and self._polls % _RETRY_EVERY == 0
        swapped = changed != self._seen or retry
        if swapped:
            self._swap(self._catalogue.live())
            self._seen = changed
        elif renamed:
            self.table = replace(self.table, features=self._features(self.table.models))
        elif self._polls % _MODELS_EVERY == 0:
            self._learn_models()
        if failure is not None:
            raise failure
        return swapped or renamed

    def _learn_features(self) -> HeadwayError | None:
        """Look whether names of views and sets stand for something else now; why that cannot be told, if so: what
        models answer does not depend on it."""
        try:
            changed = self._catalogue.last_published()
            if changed != self._published_seen:
                self._published = self._catalogue.features()
                self._published_seen = changed
        except HeadwayError as error:
            return error
        return None

    def _learn_models(self) -> None:
        known = frozenset(self._catalogue.models())
        if known != self.table.known:
            self.table = replace(self.table, known=known)

    def _swap(self, live: Mapping[str, Mapping[str | None, VersionRecord]]) -> None:
        before = self.table
        loaded = {(v.record.model, v.record.version): v for route in before.models.values() for v in route.versions}
        models: dict[str, ModelRoute] = {}
        failures: dict[str, str] = {}
        for name, records in live.items():
            if not records:
                continue
            try:
                models[name] = self._route(name, records, loaded)
            except Exception as error:  # noqa: BLE001 - a version may break in any way; the others must go on
                failures[name] = _reason(error)
                if name in before.models:
                    models[name] = before.models[name]
                self._report(name, failures[name], before)
        self.table = Table(
            models=models,
            features=self._features(models),
            known=frozenset(self._catalogue.models()) | frozenset(live),
            live=frozenset(name for name, records in live.items() if records),
            failures=failures,
            built=True,
        )
        if self._on_swap is not None:
            self._on_swap(self.table)

    def _route(
        self,
        name: str,
        records: Mapping[str | None, VersionRecord],
        loaded: Mapping[tuple[str, int], LoadedVersion],
    ) -> ModelRoute:
        wanted = {record.version: record for record in records.values()}
        ready = {number: loaded.get((name, number)) or self._load(record) for number, record in wanted.items()}
        return ModelRoute(name, {segment: ready[record.version] for segment, record in records.items()})

    def _report(self, name: str, why: str, before: Table) -> None:
        if self._on_failure is not None:
            self._on_failure(name)
        if before.failures.get(name) != why:
            kept = "the version before goes on answering" if name in before.models else "nothing answers for it"
            log.error("model %s: what is live cannot be loaded, %s: %s", name, kept, why)

    def _features(self, models: Mapping[str, ModelRoute]) -> dict[str, ServedFeatures]:
        """What can be read by name, each bound once; what has not changed stays as it is."""
        before: Mapping[str, ServedFeatures] = self.table.features
        found: dict[str, ServedFeatures] = {}
        self._in_table = self._published
        for name, uses, is_set in self._named(models):
            known = before.get(name)
            if known is not None and known.uses == uses and known.is_set == is_set:
                found[name] = known
                continue
            try:
                found[name] = ServedFeatures(name, uses, self._reader, is_set=is_set)
            except HeadwayError as error:
                log.error("%s %s cannot be served: %s", "set" if is_set else "view", name, error)
        return found

    def _named(self, models: Mapping[str, ModelRoute]) -> Iterator[tuple[str, tuple[ViewUse, ...], bool]]:
        """Views and sets by name. A view is what a live version uses, since that is kept fresh; else as it is declared
        now."""
        views = self._declared | {name: plan for name, plan in self._published.views.items() if plan.online}
        for route in models.values():
            for version in route.versions:
                views.update({use.plan.name: use.plan for use in version.plan.views})
        for name, plan in views.items():
            if name not in self._published.sets:
                yield name, (whole_view(plan),), False
        for name, uses in self._published.sets.items():
            yield name, uses, True


def _reason(error: Exception) -> str:
    if isinstance(error, HeadwayError):
        return str(error)
    log.error("loading a version failed", exc_info=error)
    return f"{type(error).__name__} while loading it; the server's log says where"


class Watcher:
    """A thread that keeps a router's table up to date."""

    def __init__(self, router: Router, poll_seconds: float = POLL_SECONDS) -> None:
        self._router = router
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._failing = ""
        self._thread = threading.Thread(target=self._run, name="headway-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for a table that is being built."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._router.refresh()
                self._failing = ""
            except Exception as error:  # noqa: BLE001 - the thread must outlive a database that is away
                if self._failing != str(error):
                    log.error("what is live cannot be read, the table stays as it is: %s", error)
                self._failing = str(error)
            self._stop.wait(self._poll_seconds)
