"""When something runs by itself: a cron line, its time zone, and what to do when a moment was missed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from headway.define._base import Declaration, Place, caller_place
from headway.define._duration import microseconds
from headway.errors import DefinitionError

Missed = Literal["once", "all", "skip"]
Overlap = Literal["skip", "queue", "allow"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBERS = {name: str(n) for n, name in (*enumerate(_MONTHS, 1), *enumerate(_WEEKDAYS))}
# What cron itself has. croniter also reads H (a hash) and R (at random), which are not the same moment twice.
_FIELD = re.compile(rf"(?i)(?:[-\d*/,#?]|\bl\d?\b|{'|'.join(_NUMBERS)})+")
_SPAN = re.compile(r"(\w+)-(\w+)")
_LONGEST_JITTER = microseconds("24h")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments at which something runs, and the policies around them.

    Parameters
    ----------
    cron
        Five fields: minute, hour, day of month, month, day of week, in ``timezone``. Where clocks are put forward, a
        time that is left out runs once when the gap ends; where they are put back, a repeated time runs once.
    timezone
        A name of the time zone database, such as ``"Europe/Lisbon"``.
    missed
        What to do with moments that passed while no scheduler ran: ``"once"`` runs for the newest of them, ``"all"``
        for each, ``"skip"`` for none.
    overlap
        What to do while the last run is still going: ``"skip"`` the new one, ``"queue"`` it behind the old one, or
        ``"allow"`` both at once.
    jitter
        Spread the start over this long after the moment, such as ``"5m"``; the same moment always waits equally long.

    Examples
    --------
    >>> Schedule("0 3 * * *", timezone="Europe/Lisbon", missed="all").cron
    '0 3 * * *'
    """

    cron: str
    timezone: str = field(default="UTC", kw_only=True)
    missed: Missed = field(default="once", kw_only=True)
    overlap: Overlap = field(default="skip", kw_only=True)
    jitter: str | None = field(default=None, kw_only=True)
    place: Place = field(default_factory=caller_place, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        wrong = _problem(self)
        if wrong is not None:
            raise DefinitionError(f"schedule ({self.place}): {wrong}")

    @property
    def jitter_microseconds(self) -> int:
        """The longest wait after a moment; 0 without jitter."""
        return 0 if self.jitter is None else microseconds(self.jitter)

    def __str__(self) -> str:
        return self.cron if self.timezone == "UTC" else f"{self.cron} {self.timezone}"


def as_schedule(owner: Declaration, value: str | Schedule | None) -> Schedule | None:
    """What a declaration was given as ``schedule=``: a cron line stands for a ``Schedule`` with the usual policies."""
    if value is None or isinstance(value, Schedule):
        return value
    if not isinstance(value, str):
        raise owner.refuse(f"schedule is a cron line such as '0 3 * * *' or hw.Schedule(...), got {value!r}")
    wrong = _cron_problem(value)
    if wrong is not None:
        raise owner.refuse(wrong)
    return Schedule(value, place=owner.place)


def _problem(schedule: Schedule) -> str | None:
    """Why this is no schedule."""
    for what, value, choices in (
        ("missed", schedule.missed, get_args(Missed)),
        ("overlap", schedule.overlap, get_args(Overlap)),
    ):
        if value not in choices:
            return f"{what} is one of {', '.join(choices)}, got {value!r}"
    return _cron_problem(schedule.cron) or _zone_problem(schedule.timezone) or _jitter_problem(schedule.jitter)


def _cron_problem(cron: object) -> str | None:
    example = "a schedule is a cron line of five fields such as '0 3 * * *'"
    if not isinstance(cron, str) or len(cron.split()) != 5:
        return f"{example}, got {cron!r}"
    odd = next((part for part in cron.split() if not _FIELD.fullmatch(part)), None)
    if odd is not None:
        return f"{example}; {odd!r} in {cron!r} is no cron field"
    whole = next((span for span in _SPAN.finditer(cron) if _same(span[1], span[2])), None)
    if whole is not None:  # croniter would take it for everything
        return f"{example}; the range {whole[0]!r} in {cron!r} has one value: write {whole[1]!r}"
    from croniter import CroniterBadDateError, CroniterError, croniter  # 60 ms, and most declarations have no schedule

    try:
        croniter(cron, 0).get_next()
    except CroniterBadDateError:
        return f"{example}; {cron!r} never comes round"
    except (CroniterError, ValueError, KeyError) as error:
        return f"{example}; {cron!r} cannot be read: {str(error).replace('[', '').replace(']', '')}"
    return None


def _same(first: str, last: str) -> bool:
    """Whether two ends of a range are one value; Sunday is 0 and 7."""
    numbers = [_NUMBERS.get(end.lower(), end).lstrip("0") or "0" for end in (first, last)]
    return numbers[0] == numbers[1] or numbers == ["7", "0"]


def _zone_problem(name: object) -> str | None:
    try:
        ZoneInfo(name)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 (a bad name fails in a dozen ways, a folder's name among them)
        return f"timezone is a name of the time zone database such as 'Europe/Lisbon', got {name!r}"
    return None


def _jitter_problem(jitter: object) -> str | None:
    if jitter is None:
        return None
    try:
        length = microseconds(jitter, "jitter")  # type: ignore[arg-type]
    except DefinitionError as error:
        return str(error)
    return None if length <= _LONGEST_JITTER else f"jitter is at most 24h, got {jitter!r}"
