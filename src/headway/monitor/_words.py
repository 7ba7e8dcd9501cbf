"""Findings in plain words."""

from __future__ import annotations

import numpy as np

from headway.monitor._bins import number
from headway.monitor._compare import Comparison
from headway.monitor._profile import ColumnCounts, ColumnProfile
from headway.monitor._statistics import superiority

# Less than this, as chance of superiority beside ½, is no direction.
_SIDEWAYS = 0.03


def share(value: float) -> str:
    """A share for people.

    >>> share(0.0612), share(0.5), share(0.00012), share(0.0), share(1.0)
    ('6.1 %', '50 %', '0.012 %', '0 %', '100 %')
    """
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if 99.9 < percent < 100:
        return "almost 100 %"
    return f"{percent:.1f} %".replace(".0 %", " %") if percent >= 0.1 else f"{percent:.2g} %"


def rows_of(n: int) -> str:
    """
    >>> rows_of(1), rows_of(11204)
    ('1 row', '11,204 rows')
    """
    return "1 row" if n == 1 else f"{n:,} rows"


def shape(name: str, profile: ColumnProfile, found: Comparison, now: ColumnCounts, alarm: bool) -> str:
    """How the values of a column differ from a base."""
    size = f"PSI {found.distance**2:.2f} on {rows_of(now.there)}"
    if not now.there:
        return f"{name} has no values in this window"
    if not found.base.sum():
        return f"{name} has values now, and {found.against} none"
    if found.p > 0.5 and not alarm:
        return f"{name} is as in {found.against}; {size}"
    how = _of_numbers(profile, found.base, now, found.against) if profile.kind == "number" else ""
    how = how or f"is not as in {found.against}: {_of_values(profile, found.base, now)}"
    usual = "; no more than in past windows" if not alarm and found.limit is not None else ""
    return f"{name} {how}; {size}{usual}"


def _of_numbers(profile: ColumnProfile, base: np.ndarray, now: ColumnCounts, against: str) -> str:
    """The median before and after, where it moved; empty where another thing is to be said."""
    if now.low is not None and now.low == now.high and profile.counts.low != profile.counts.high:
        return f"is always {number(now.low)}, unlike {against}"
    before, after = base[: len(now.bins)], np.array(now.bins)
    if now.unseen > 0.5 * now.there or not before.sum():
        return ""
    lean = superiority(before, after) - 0.5
    old, new = middle(profile, before), middle(profile, after)
    if old == new or abs(lean) < _SIDEWAYS:
        return ""
    return f"is {'higher' if lean > 0 else 'lower'} than in {against}: median {old} → {new}"


def _of_values(profile: ColumnProfile, base: np.ndarray, now: ColumnCounts) -> str:
    """The bin whose share changed most."""
    labels = [*(f"rows with {label}:" for label in profile.labels), "unseen values:", "infinite values:"]
    if profile.kind == "category":
        labels[-3] = "other values:"
    after = np.array([*now.bins, now.unseen, now.infinite], dtype=np.float64)
    p, q = base / max(base.sum(), 1), after / max(after.sum(), 1)
    at = int(np.argmax(np.abs(q - p)))
    return f"{labels[at]} {share(float(p[at]))} → {share(float(q[at]))}"


def share_of(check: str, name: str, profile: ColumnProfile, now: ColumnCounts, before: float, after: float) -> str:
    """How a share of rows changed."""
    shares = f"{share(before)} → {share(after)}"
    size = f"of {rows_of(now.rows if check == 'missing' else now.there)}"
    if check == "missing":
        if after == 1.0 and before < 1.0:
            return f"{name} is always null: {shares} {size}"
        return f"nulls of {name} {_change(before, after)}: {shares} {size}"
    if check == "unseen":
        return f"{name} has values that the reference has not: {shares} {size}"
    low, high = number(profile.quantiles["0"]), number(profile.quantiles["1"])
    where = "above" if now.above > now.below else "below"
    found = number((now.high if where == "above" else now.low) or 0.0)
    return f"{name} goes far {where} the reference's range {low} … {high}, to {found}: {shares} {size}"


def stuck(name: str, now: ColumnCounts) -> str:
    """Many rows at exactly one end."""
    if now.low == now.high:
        return f"{name} is always {number(now.low or 0.0)}, on {rows_of(now.there)}"
    end, rows, which = (
        (now.high, now.at_high, "greatest") if now.at_high >= now.at_low else (now.low, now.at_low, "least")
    )
    part = share(rows / max(now.there, 1))
    return f"{name} stops at {number(end or 0.0)}: {part} of {rows_of(now.there)} are exactly this {which} value"


def _change(before: float, after: float) -> str:
    if before == after:
        return "stayed"
    if not before or not after:
        return "appeared" if after else "are gone"
    ratio = after / before
    for factor, word in ((2.0, "doubled"), (3.0, "tripled"), (0.5, "halved")):
        if abs(ratio / factor - 1) < 0.08:
            return word
    return "rose" if ratio > 1 else "fell"


def volume(rows: int, usual: float | None, alarm: bool) -> str:
    """How many rows there are."""
    if not usual:
        return f"{rows_of(rows)} in this window"
    if not rows:
        return f"no rows in this window; {usual:,.0f} are usual"
    if not alarm:
        return f"{rows_of(rows)} in this window; about {usual:,.0f} are usual"
    way = "more" if rows > usual else "fewer"
    return f"{rows_of(rows)} in this window, {share(abs(rows / usual - 1))} {way} than the usual {usual:,.0f}"


def middle(profile: ColumnProfile, bins: np.ndarray) -> str:
    """The median for people, as near as counts on the bins tell it."""
    rows = np.cumsum(bins)
    half = rows[-1] / 2
    at = int(np.searchsorted(rows, half))
    if profile.values is not None:
        return number(profile.values[at])
    if not profile.cuts:
        return "the same"
    if at == 0:
        return f"≤ {number(profile.cuts[0])}"
    if at == len(profile.cuts):
        return f"> {number(profile.cuts[-1])}"
    low, high = profile.cuts[at - 1], profile.cuts[at]
    below = rows[at - 1]
    return number(low + (high - low) * (half - below) / (rows[at] - below))
