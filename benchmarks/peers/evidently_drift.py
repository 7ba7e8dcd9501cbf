"""Evidently's PSI of every column, in an environment of its own: `python evidently_drift.py DIRECTORY ROWS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    directory, rows = Path(sys.argv[1]), int(sys.argv[2])
    frames = []
    for name in ("reference", "current"):
        matrix = np.load(directory / f"{name}.npy", mmap_mode="r")[:, :rows]
        frames.append(pd.DataFrame({f"c{i}": np.array(column) for i, column in enumerate(matrix)}))
    definition = DataDefinition(numerical_columns=list(frames[0].columns))
    begin = perf_counter()
    reference, current = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
    found = Report([DataDriftPreset(num_method="psi")]).run(current, reference).dict()
    seconds = perf_counter() - begin
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    assert len(found["metrics"]) > len(frames[0].columns)
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    main()
