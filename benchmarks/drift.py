"""Drift of 1 000 000 rows × 50 columns: headway on frozen bins, numpy by hand, Evidently's PSI preset."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from environments import HERE, environment
from harness import ALL, Section, answer, child, figure, median, peak_mb, rounds, warmed

from headway.define.watch_records import Figure
from headway.monitor import Profile, build_profile, count, drift

ROWS, COLUMNS = 1_000_000, 50
_LONGEST = 240  # seconds that Evidently may take


def make(directory: str, rows: int) -> dict[str, Any]:
    """A reference, its profile, and a window in which one column in ten has moved; columns one after the other.

    Of ten columns four are normal, two log-normal, two half zeros, one of counts and one of five values.
    """
    random = np.random.default_rng(7)
    for name, shift in (("reference", 0.0), ("current", 0.5)):
        matrix = np.empty((COLUMNS, rows))
        for i in range(COLUMNS):
            x = random.normal(size=rows) + (shift if i % 10 == 0 else 0.0)
            match i % 10:
                case 4 | 5:
                    x = np.exp(x)
                case 6 | 7:
                    x = np.maximum(x, 0.0)
                case 8:
                    x = random.poisson(40, rows).astype(np.float64)
                case 9:
                    x = np.clip(np.rint(x), -2.0, 2.0)
            matrix[i] = x
        np.save(Path(directory) / f"{name}.npy", matrix)
        if name == "reference":
            (Path(directory) / "profile.json").write_bytes(build_profile(_table(matrix)).to_json())
    return {}


def _table(matrix: np.ndarray) -> pa.Table:
    return pa.table({f"c{i}": pa.array(column) for i, column in enumerate(matrix)})


def headway(directory: str) -> dict[str, Any]:
    table = _table(np.load(Path(directory) / "current.npy"))
    profile = Profile.from_json((Path(directory) / "profile.json").read_bytes())
    before = peak_mb()
    begin = perf_counter()
    found = drift(profile, count(profile, table), model="bench", window=(0, 1))
    return {"seconds": perf_counter() - begin, "before_mb": before, "drifted": _drifted(found)}


def _drifted(figures: Sequence[Figure]) -> list[str]:
    return sorted(each.name for each in figures if each.kind == "drift" and each.alarm)


def profiled(directory: str) -> dict[str, Any]:
    table = _table(np.load(Path(directory) / "reference.npy"))
    before = peak_mb()
    begin = perf_counter()
    build_profile(table)
    return {"seconds": perf_counter() - begin, "before_mb": before}


def equal_width(directory: str) -> dict[str, Any]:
    """numpy.histogram on ten bins of one width, which it finds by arithmetic."""
    matrix = np.load(Path(directory) / "current.npy")
    profile = Profile.from_json((Path(directory) / "profile.json").read_bytes())
    ends = [(c.quantiles["0"], c.quantiles["1"]) for c in profile.columns.values()]
    before = peak_mb()
    begin = perf_counter()
    for column, range_ in zip(matrix, ends, strict=True):
        np.histogram(column, bins=10, range=range_)
    return {"seconds": perf_counter() - begin, "before_mb": before}


def quantiles(directory: str) -> dict[str, Any]:
    """numpy.searchsorted into the quantiles of the reference, and bincount."""
    matrix = np.load(Path(directory) / "current.npy")
    profile = Profile.from_json((Path(directory) / "profile.json").read_bytes())
    edges = [np.array(c.cuts or c.values) for c in profile.columns.values()]
    before = peak_mb()
    begin = perf_counter()
    for column, cuts in zip(matrix, edges, strict=True):
        np.bincount(np.searchsorted(cuts, column), minlength=len(cuts) + 1)
    return {"seconds": perf_counter() - begin, "before_mb": before}


def evidently(directory: Path, rows: int) -> dict[str, Any] | None:
    """The peer's answer; None where it cannot be installed, without seconds where it takes too long."""
    python = environment("evidently")
    if python is None:
        return None
    script = HERE / "peers" / "evidently_drift.py"
    command = [str(python), "-W", "ignore", str(script), str(directory), str(rows)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=True)
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(directory: Path, quick: bool) -> Section:
    rows = ROWS // 20 if quick else ROWS
    section = Section(
        f"Drift of {figure(rows)} rows × {COLUMNS} columns",
        ("", "seconds", "peak memory MB", "of it before MB"),
        note=(
            "A window's rows, in memory as doubles, against a reference. headway: counts on the frozen bins, then for "
            "each column PSI, its threshold, missing and unseen values, range and ends, and a sentence. By hand: the "
            "counts alone. Evidently: DataDriftPreset with PSI, which bins reference and window anew each time; its "
            "reading of the data is not counted either."
        ),
    )
    child(__file__, "make", str(directory), rows, cores=ALL)
    small = directory / "small"
    small.mkdir()
    child(__file__, "make", str(small), 1000, cores=ALL)
    tasks = {
        "headway": "headway",
        "headway: the reference's bins, once": "profiled",
        "numpy, equal width": "equal_width",
        "numpy, quantiles": "quantiles",
    }
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in tasks}
    for _ in rounds(1 if quick else 5, 60):
        for label, task in tasks.items():
            runs[label].append(child(__file__, task, (str(small),), str(directory), cores=ALL))
    seconds = {label: median(run["seconds"] for run in found) for label, found in runs.items()}
    for label, found in runs.items():
        peak, before = (median(run[key] for run in found) for key in ("peak_mb", "before_mb"))
        section.rows.append((label, figure(seconds[label]), figure(peak), figure(before)))
    for some in (rows // 10, rows):
        other = evidently(directory, some)
        if other is not None:
            shown = figure(other["seconds"]) if other else f"more than {_LONGEST}"
            peak_of_it = figure(other["peak_mb"]) if other else ""
            section.rows.append((f"Evidently, {figure(some)} rows", shown, peak_of_it, ""))
    section.judge("seconds", seconds["headway"], "≤ 1.5", seconds["headway"] <= 1.5)
    peak = median(run["peak_mb"] for run in runs["headway"])
    section.judge("peak memory, MB", peak, "≤ 1000", peak <= 1000)
    if other:
        section.verdicts.append(f"Evidently ÷ headway: **{figure(other['seconds'] / seconds['headway'])}**")
    drifted = set(runs["headway"][0]["drifted"])
    shifted = {f"c{i}" for i in range(0, COLUMNS, 10)}
    section.verdicts.append(
        f"of the {len(shifted)} columns shifted by half a standard deviation {len(drifted & shifted)} are said to have "
        f"drifted, of the others {len(drifted - shifted)}"
    )
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer(
        {
            "make": make,
            "headway": warmed(headway),
            "profiled": warmed(profiled),
            "equal_width": warmed(equal_width),
            "quantiles": warmed(quantiles),
        }
    )
