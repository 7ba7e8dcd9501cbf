"""Do the columns of a window, taken together, differ from the reference? A classifier tries to tell the rows apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headway.define.watch_records import Figure
from headway.monitor._estimate import matrices
from headway.monitor._statistics import BEFORE, ENOUGH, history_limit
from headway.monitor._words import rows_of
from headway.train import _metrics

# The area under the curve that is tolerated, however many rows there are.
TOLERATED_AUC = 0.6
NAME = "all columns together"
_MOST_ROWS, _LEAST_ROWS = 10_000, 100


def together(
    reference: pa.Table,
    current: pa.Table,
    *,
    model: str,
    window: tuple[int, int],
    version: int | None = None,
    segment: str | None = None,
    history: Sequence[Figure] = (),
    alpha: float = 0.05,
) -> Figure | None:
    """One figure of kind ``drift``: how well a classifier tells the window's rows from the reference's (AUC; ½: not at
    all), by two-fold cross-validation, on at most 10,000 rows of each. None with fewer than 100 rows on one side.

    It sees what single columns do not show, such as a relation between two of them that broke.
    """
    columns = [name for name in reference.column_names if name in current.column_names]
    one, two = (_some(table.select(columns)) for table in (reference, current))
    if min(one.num_rows, two.num_rows) < _LEAST_ROWS or not columns:
        return None
    auc, error = _told_apart(*matrices(one, two))
    past = [f.statistic for f in history if f.kind == "drift" and f.name == NAME and f.statistic is not None]
    past = past[:-BEFORE] if len(past) >= ENOUGH + BEFORE else past
    from scipy.special import ndtr, ndtri

    limit = TOLERATED_AUC + float(ndtri(1 - alpha)) * error
    if calibrated := len(past) >= ENOUGH:
        limit = max(limit, history_limit(np.array(past), error))
    alarm = auc > limit
    size = rows_of(two.num_rows)
    can = (
        "can be told" if alarm else "can hardly be told" if auc < TOLERATED_AUC else "can be told, as in past windows,"
    )
    return Figure(
        model=model,
        version=version,
        segment=segment,
        window_start=window[0],
        window_end=window[1],
        kind="drift",
        name=NAME,
        n=current.num_rows,
        reference_n=reference.num_rows,
        statistic=auc,
        effect=auc - 0.5,
        threshold=limit,
        p=float(ndtr(-(auc - TOLERATED_AUC) / error)) if error else None,
        method=f"history of {len(past)} windows" if calibrated else "domain classifier",
        alarm=alarm,
        severity="warning" if alarm else "info",
        said=f"rows of this window {can} from the reference's: AUC {auc:.2f} ± {1.96 * error:.2f} on {size}",
        details={"check": "together", "columns": columns, "error": error},
    )


def _some(table: pa.Table) -> pa.Table:
    if table.num_rows <= _MOST_ROWS:
        return table
    rows = np.random.default_rng(0).choice(table.num_rows, _MOST_ROWS, replace=False)
    return table.take(pa.array(np.sort(rows)))


def _told_apart(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """The AUC, of two halves together, and its standard error (Hanley and McNeil)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.concatenate([one, two])
    truth = np.r_[np.zeros(len(one)), np.ones(len(two))]
    fold = np.random.default_rng(0).permutation(len(rows)) % 2
    found = []
    for held in (0, 1):
        learner = HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=20, random_state=0)
        learner.fit(rows[fold != held], truth[fold != held])
        scores = learner.predict_proba(rows[fold == held])[:, 1]
        found.append(_metrics.evaluate(["auc"], "binary", (0.0, 1.0), truth[fold == held], scores)["auc"])
    auc = float(np.mean(found))
    n, m = len(one), len(two)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)) / (n * m)
    return auc, float(np.sqrt(max(variance, 0.0)))
