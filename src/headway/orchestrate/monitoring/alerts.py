"""From alarms to somebody who knows: alerts are counted, told, acknowledged, silenced and resolved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from headway.clock import WallClock, to_iso
from headway.define._duration import microseconds
from headway.define._monitor import rank
from headway.define.watch_records import Alert, AlertState, Silence
from headway.errors import NotFoundError, UsageError
from headway.monitor import Delivery, Message, channels, deliver
from headway.orchestrate._parts import Parts
from headway.orchestrate._user import user

_HOUR = 3_600_000_000
_CHANNEL = "alert channel"  # stage under which the last delivery of every channel is kept


class Told(msgspec.Struct, frozen=True):
    """What came of one round: the alerts as they are now, those that are new, those that are over, and what became of
    the messages."""

    alerts: tuple[Alert, ...] = ()
    new: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


class AlertDesk:
    """Alerts of one environment. People and machines are told in wall time, whatever the clock of the data says."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._alerts = parts.metadata.alerts

    def round(
        self, found: Sequence[Alert], looked_at: Collection[str], *, still: Collection[str] = (), tell: bool = True
    ) -> Told:
        """Take what was found now.

        ``still`` holds keys of alerts that stand, though nothing new was looked at: they are not counted again.
        ``looked_at`` holds prefixes of keys: an open alert whose key begins with one of them and which neither was
        found nor stands is over. With ``tell`` False nobody is told: the next round does it.
        """
        now = WallClock().now()
        before = {alert.key: alert for alert in self._open()}
        kept: list[Alert] = []
        new: list[Alert] = []
        due: list[Alert] = []
        for alert in found:
            stored, fresh = self._alerts.found(alert, now)
            kept.append(stored)
            new += [stored] if fresh else []
            known = before.get(alert.key)
            worse = known is not None and rank(stored.severity) < rank(known.severity)
            if self.due(stored, now, worse=worse):
                due.append(stored)
        for alert in before.values():
            if alert.key in still and alert.key not in {a.key for a in found}:
                kept.append(alert)
                due += [alert] if self.due(alert, now) else []
        over = self._over(before.values(), {*still, *(a.key for a in found)}, looked_at, now)
        sent = self.tell(due, [a for a in over if a.told_at is not None], now) if tell else []
        return Told(tuple(kept), tuple(new), tuple(over), tuple(sent))

    def due(self, alert: Alert, now: int, *, worse: bool = False) -> bool:
        """Whether somebody is to be told of an alert now: it is new, or got worse, or was told long enough ago, and
        nobody has acknowledged or silenced it."""
        if alert.state != "open" or (alert.silenced_until is not None and alert.silenced_until > now):
            return False
        repeat = self._parts.settings.alerts.repeat * _HOUR
        return worse or alert.told_at is None or now - alert.told_at >= repeat

    def tell(self, due: Sequence[Alert], over: Sequence[Alert], now: int) -> list[Delivery]:
        """Send one message about these alerts to every channel, and remember what became of it. An alert counts as
        told once a channel has carried it."""
        settings = self._parts.settings
        to = channels(settings.alerts)
        if not to or not (due or over):
            return []
        self._parts.progress("tell", 0, 0)
        done = deliver(to, message(settings.project, settings.env, due, over), redact=settings.redact)
        self._remember(done, now)
        if any(each.ok for each in done):
            for alert in due:
                self._alerts.told(alert.id, now)
        return done

    def test(self) -> list[Delivery]:
        """Send a test alert to every channel."""
        settings = self._parts.settings
        now = WallClock().now()
        alert = Alert(
            key="test",
            kind="test",
            severity="info",
            title="This is a test",
            text="Nothing is wrong: somebody tried whether alerts arrive here.",
            first_at=now,
            last_at=now,
        )
        done = deliver(
            channels(settings.alerts), message(settings.project, settings.env, [alert], []), redact=settings.redact
        )
        self._remember(done, now)
        return done

    def failing(self) -> list[tuple[Delivery, int]]:
        """The channels whose last message did not get through, and when that was; those that are still in use."""
        used = {channel.name for channel in channels(self._parts.settings.alerts)}
        found = []
        for name in sorted(used):
            last = self._parts.metadata.stages.get(_CHANNEL, name)
            if last is not None and not last.output["ok"]:
                found.append((msgspec.convert(last.output, Delivery), last.at))
        return found

    def list(
        self, *, state: Collection[AlertState] = ("open", "acknowledged"), model: str | None = None, limit: int = 100
    ) -> list[Alert]:
        """Alerts, worst first."""
        return self._alerts.list(state=state, model=model, limit=limit)

    def get(self, id: int) -> Alert:
        """One alert. Raises ``NotFoundError``."""
        alert = self._alerts.get(id)
        if alert is None:
            raise NotFoundError(f"there is no alert {id}; `headway alerts list` shows those there are")
        return alert

    def acknowledge(self, id: int, *, why: str, by: str | None = None) -> Alert:
        """Say that somebody is looking into it: it is not told again."""
        return self._answer("acknowledge", id, why, by)

    def resolve(self, id: int, *, why: str, by: str | None = None) -> Alert:
        """Say that it is over; found again, it is a new alert."""
        return self._answer("resolve", id, why, by)

    def silence(self, key: str, *, length: str, why: str, by: str | None = None) -> Silence:
        """Tell nobody of the alerts whose key is ``key``, or begins with it and a slash, for a while."""
        if not why.strip():
            raise UsageError("a silence needs a reason: whoever wonders why nobody was told will look for it (--why)")
        now = WallClock().now()
        until = now + microseconds(length, "the length of a silence")
        if until <= now:
            raise UsageError("a silence lasts longer than nothing; give a length such as 2d")
        who = by or user()
        self._alerts.silence(key, until, who, why, now)
        self._audit(who, "silence alerts", key, why, {"until": to_iso(until)}, now)
        return Silence(key_prefix=key.rstrip("/"), until=until, by=who, why=why, at=now)

    def unsilence(self, key: str, *, by: str | None = None) -> None:
        """Take a silence back."""
        now = WallClock().now()
        self._alerts.unsilence(key)
        self._audit(by or user(), "end silence", key, "", {}, now)

    def silences(self) -> Sequence[Silence]:
        """The silences that hold now."""
        now = WallClock().now()
        return [s for s in self._alerts.silences() if s.until > now]

    def _open(self) -> Sequence[Alert]:
        return self._alerts.list(limit=10_000)

    def _answer(self, verb: str, id: int, why: str, by: str | None) -> Alert:
        if not why.strip():
            raise UsageError(f"to {verb} an alert needs a reason, for whoever comes after (--why)")
        known = self.get(id)
        if known.state == "resolved":
            raise UsageError(f"alert {id} ({known.key}) is resolved already: {known.why or 'no reason given'}")
        now, who = WallClock().now(), by or user()
        change = self._alerts.acknowledge if verb == "acknowledge" else self._alerts.resolve
        alert = change(id, who, why, now)
        self._audit(who, f"{verb} alert", alert.key, why, {"alert": id}, now)
        return alert

    def _audit(self, by: str, action: str, object: str, why: str, details: dict[str, object], at: int) -> None:
        self._parts.metadata.audit.append(by, action, object, why, details, at=at)

    def _over(
        self, known: Iterable[Alert], found: Collection[str], looked_at: Collection[str], now: int
    ) -> tuple[Alert, ...]:
        over = tuple(
            alert
            for alert in known
            if alert.key not in found and any(f"{alert.key}/".startswith(f"{prefix}/") for prefix in looked_at)
        )
        for alert in over:
            self._alerts.resolve_key(alert.key, now)
        return over

    def _remember(self, done: Iterable[Delivery], now: int) -> None:
        for each in done:
            self._parts.metadata.stages.put(_CHANNEL, each.channel, "last", each, now)


def message(project: str, env: str, due: Sequence[Alert], over: Sequence[Alert]) -> Message:
    """What channels carry: a subject, a few lines per alert, and the alerts themselves."""
    where = f"{project}/{env}"
    if due:
        worst = min(due, key=lambda a: rank(a.severity))
        more = f" (and {len(due) - 1} more)" if len(due) > 1 else ""
        title = f"[{where}] {worst.severity}: {worst.title}{more}"
    else:
        title = f"[{where}] over: {over[0].title}{f' (and {len(over) - 1} more)' if len(over) > 1 else ''}"
    blocks = [_block(alert) for alert in sorted(due, key=lambda a: rank(a.severity))]
    if over:
        blocks.append("No longer found:\n" + "\n".join(f"- {alert.title}" for alert in over))
    state = [(alert, alert.state) for alert in due] + [(alert, "resolved") for alert in over]
    data = tuple({**msgspec.to_builtins(a), "state": s, "project": project, "env": env} for a, s in state)
    return Message(title=title, text="\n\n".join(blocks), alerts=data)


def _block(alert: Alert) -> str:
    lines = [f"{alert.severity.upper()} {alert.title}", alert.text]
    if alert.count > 1:
        lines.append(f"Found {alert.count} times since {to_iso(alert.first_at)[:16]} UTC.")
    if alert.runbook:
        lines.append(f"What to do: {alert.runbook}")
    if alert.id:
        lines.append(f'headway alerts ack {alert.id} --why "…"')
    return "\n".join(line for line in lines if line)


def ago(at: int, now: int) -> str:
    """How long ago, to the nearest sensible unit."""
    length = about(max(0, now - at))
    return f"{length} ago" if length else "just now"


def about(length: int) -> str:
    """A length of time in the greatest unit it has one of; empty under a second.

    >>> about(57_200_280_000_000), about(90_000_000)
    ('662d', '1m')
    """
    for unit, name in ((86_400_000_000, "d"), (_HOUR, "h"), (60_000_000, "m"), (1_000_000, "s")):
        if length >= unit:
            return f"{length // unit}{name}"
    return ""
