"""One model per segment, side by side where that is quicker.

Workers are joblib's (loky): fresh interpreters, because a forked copy of a process in which LightGBM has already
started its OpenMP threads hangs in its first fit, and because the main script of a user is not imported again, so it
needs no ``__main__`` guard. A worker costs seconds to start (it imports scikit-learn), so the largest segment is
fitted here and timed first; workers come only if they would save more than that. The rows go over once, as a file
that all workers map. Every segment is fitted on one thread with the same seed either way, so the result is the same
whatever the number of jobs.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headway.clock import stopwatch
from headway.errors import HeadwayError
from headway.train._fit import Fitted, Recipe, fit
from headway.train._target import Target

# What starting the workers costs (importing scikit-learn and LightGBM), rounded up.
_START_SECONDS = 6.0
# The final models follow the twin's, so workers wait a while for more.
_IDLE_SECONDS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A value of the segment column and the positions of its rows."""

    name: str
    rows: np.ndarray


def fit_segments(
    recipe: Recipe,
    matrix: np.ndarray,
    target: Target,
    segments: list[Segment],
    directory: Path,
    *,
    jobs: int,
    done: Callable[[str], None],
) -> dict[str, Fitted]:
    """Fit every segment and write it below ``directory``; ``done`` is called with its name after each.

    Errors: those of ``fit``, and ``HeadwayError`` where a worker was killed.
    """
    waiting = sorted(segments, key=lambda s: (-len(s.rows), s.name))
    found: dict[str, Fitted] = {}
    if waiting:
        elapsed = stopwatch()
        first = waiting.pop(0)
        found[first.name] = _fit_here(recipe, matrix, target, first, directory)
        done(first.name)
        rest = sum(len(s.rows) for s in waiting) / len(first.rows) * elapsed()
        if jobs > 1 and len(waiting) > 1 and rest * (1 - 1 / min(jobs, len(waiting))) > _START_SECONDS:
            results = _fit_in_workers(recipe, matrix, target, waiting, directory, jobs)
        else:
            results = ((s.name, _fit_here(recipe, matrix, target, s, directory)) for s in waiting)
        for name, fitted in results:
            found[name] = fitted
            done(name)
    return {segment.name: found[segment.name] for segment in segments}


def stem_of(name: str) -> str:
    """A file name for a segment: readable, and different for different segments on every file system.

    >>> stem_of("Staten Island")
    'segments/Staten_Island-3cbcd5a0'
    """
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", name)[:40]
    return f"segments/{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _fit_here(recipe: Recipe, matrix: np.ndarray, target: Target, segment: Segment, directory: Path) -> Fitted:
    return fit(
        *(recipe, matrix[segment.rows], target.on(segment.rows), directory / stem_of(segment.name)),
        root=directory,
        threads=1,
        segment=segment.name,
    )


def _fit_in_workers(
    recipe: Recipe, matrix: np.ndarray, target: Target, segments: list[Segment], directory: Path, jobs: int
) -> Iterator[tuple[str, Fitted]]:
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, delayed, parallel_config

    with tempfile.TemporaryDirectory(dir=directory, prefix=".rows-") as folder:
        shared = _share(Path(folder), matrix, target, segments)
        bounds = np.cumsum([0, *(len(s.rows) for s in segments)])
        tasks = (
            delayed(_fit_there)(recipe, shared, segment.name, int(bounds[i]), int(bounds[i + 1]), directory)
            for i, segment in enumerate(segments)
        )
        try:
            with parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=_IDLE_SECONDS):
                yield from Parallel(n_jobs=min(jobs, len(segments)), return_as="generator_unordered", batch_size=1)(
                    tasks
                )
        except BrokenProcessPool as error:
            raise HeadwayError(
                f"{recipe.owner}: a worker process was killed while it fitted segments, most likely for want of memory;"
                " free some, or train with fewer jobs"
            ) from error


@dataclass(frozen=True, slots=True)
class _Shared:
    """The rows of all segments, one segment after the other, in files."""

    matrix: Path
    y: Path
    target: tuple[Any, ...]  # task and classes


def _share(folder: Path, matrix: np.ndarray, target: Target, segments: list[Segment]) -> _Shared:
    order = np.concatenate([s.rows for s in segments])
    shared = _Shared(folder / "matrix.npy", folder / "y.npy", (target.task, target.classes))
    np.save(shared.matrix, matrix[order])
    np.save(shared.y, target.y[order])
    return shared


def _fit_there(recipe: Recipe, shared: _Shared, name: str, start: int, end: int, directory: Path) -> tuple[str, Fitted]:
    task, classes = shared.target
    target = Target(task, np.load(shared.y, mmap_mode="r"), classes).on(np.arange(start, end))
    matrix = np.array(np.load(shared.matrix, mmap_mode="r")[start:end])
    stem = directory / stem_of(name)
    return name, fit(recipe, matrix, target, stem, root=directory, threads=1, segment=name)
