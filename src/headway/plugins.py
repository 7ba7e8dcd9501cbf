"""Backends by entry point: a kind and a scheme in, a factory out. Ours load by the same door as anyone's.

A package offers a backend with one line of its ``pyproject.toml``. The name is the scheme that users write in
``headway.toml`` (``online = "redis://cache:6379/0"``), the group is ``headway.`` and the kind, see `KINDS`::

    [project.entry-points."headway.online_stores"]
    redis = "their_package.online:open_store"

    @headway.plugins.maturity("stable")        # what says nothing is beta
    def open_store(url, ...): ...

What a factory takes and returns is the contract of its kind, beside its protocol. A factory whose package needs
something that is not installed is reported with the extra to install, which by convention has the scheme's name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any, Literal, TypeVar

from headway.errors import HeadwayError, MissingExtra, NotFoundError, SettingsError, StoreError, UsageError, suggest

Maturity = Literal["stable", "beta"]
Factory = TypeVar("Factory", bound=Callable[..., Any])

KINDS: Mapping[str, str] = {
    "metadata_stores": "metadata store",
    "tracking_stores": "tracking store",
    "lakes": "lake",
    "online_stores": "online store",
    "compute_engines": "compute engine",
    "executors": "executor",
    "schedulers": "scheduler",
    "sources": "source reader",
}
"""Kind of backend → what one is called. The entry point group of a kind is ``headway.<kind>``."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)(?:\+[A-Za-z0-9._-]+)?://")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend that loaded. ``provider`` is the distribution it comes from, with its version."""

    kind: str
    scheme: str
    maturity: Maturity
    provider: str
    open: Callable[..., Any]


def maturity(level: Maturity) -> Callable[[Factory], Factory]:
    """Mark a factory with what its authors promise: an environment with ``maturity = "stable"`` refuses beta."""

    def mark(factory: Factory) -> Factory:
        factory.headway_maturity = level  # type: ignore[attr-defined]
        return factory

    return mark


def scheme(setting: str) -> str:
    """The scheme of a setting: of a URL what stands before ``://`` (a driver after ``+`` left out), a single word
    itself, and ``file`` for a path.

    >>> scheme("postgresql+psycopg://db/headway"), scheme("duckdb"), scheme("./lake")
    ('postgresql', 'duckdb', 'file')
    """
    if url := _SCHEME.match(setting):
        return url.group(1).lower()
    return setting if _WORD.fullmatch(setting) else "file"


def schemes(kind: str) -> tuple[str, ...]:
    """The schemes somebody installed offers for a kind, sorted; nothing is imported."""
    return tuple(sorted({entry.name for entry in _entries(kind)}))


def load(kind: str, scheme: str, *, least: Maturity = "beta") -> Backend:
    """The backend for a scheme.

    Raises `NotFoundError` (nobody offers it), `MissingExtra` (its package is not installed), `SettingsError` (it is
    less mature than ``least``, or two packages offer it) or `StoreError` (its code does not load).
    """
    entries = [entry for entry in _entries(kind) if entry.name == scheme]
    if not entries:
        raise NotFoundError(
            f"no installed package offers the {KINDS[kind]} {scheme!r}; {suggest(scheme, schemes(kind))}"
        )
    if len({entry.value for entry in entries}) > 1:
        providers = " and ".join(sorted(_provider(entry) for entry in entries))
        raise SettingsError(f"{providers} both offer the {KINDS[kind]} {scheme!r}; uninstall all but one")
    backend = _load(kind, entries[0])
    if least == "stable" and backend.maturity != "stable":
        raise SettingsError(
            f"the {KINDS[kind]} {scheme!r} is {backend.maturity}, and this environment allows stable ones only; "
            f'choose another or set maturity = "beta"'
        )
    return backend


def _entries(kind: str) -> tuple[EntryPoint, ...]:
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of backend; {suggest(kind, KINDS)}")
    group, seen, found = f"headway.{kind}", set[str](), list[EntryPoint]()
    for place, changed in import_path():
        for distribution, offered in _offered(place, changed).items():
            if distribution not in seen:  # the first on the path is the one that is imported
                seen.add(distribution)
                found += (entry for entry in offered if entry.group == group)
    return tuple(found)


@lru_cache(maxsize=256)
def _offered(place: str, changed: int) -> Mapping[str, tuple[EntryPoint, ...]]:  # noqa: ARG001 - see below
    """What each distribution at a place offers to headway. While the place has not changed, this has not either."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for one in distributions(path=[place]):
        offered = tuple(entry for entry in one.entry_points if entry.group.startswith("headway."))
        if offered:  # the name of one that offers nothing is not looked at: it takes longer than all the rest
            found.setdefault(one.name, offered)
    return found


def import_path() -> tuple[tuple[str, int], ...]:
    """Where Python looks for modules, and when each place last changed: while it is the same, so is what is installed.

    Looking at every distribution takes a tenth of a second; looking at this, some microseconds.
    """
    return tuple((place, _changed(place)) for place in sys.path)


def _changed(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns  # an empty one is where Python was started
    except OSError:
        return 0


def _load(kind: str, entry: EntryPoint) -> Backend:
    try:
        factory = entry.load()
    except HeadwayError:
        raise
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != entry.module.partition(".")[0]:
            raise _missing(kind, entry, error.name) from error
        raise _broken(kind, entry, error) from error
    except Exception as error:  # whatever somebody else's module raises when it is imported
        raise _broken(kind, entry, error) from error
    if not callable(factory):
        raise _broken(kind, entry, TypeError(f"{entry.value} is not a function"))
    level: Maturity = "stable" if getattr(factory, "headway_maturity", "beta") == "stable" else "beta"
    return Backend(kind, entry.name, level, _provider(entry), factory)


def _missing(kind: str, entry: EntryPoint, module: str) -> MissingExtra:
    package = module.partition(".")[0]
    extra = _extra(entry.dist, entry.name)
    command = f"pip install '{extra}'" if extra else f"pip install {package}"
    return MissingExtra(
        f"the {KINDS[kind]} {entry.name!r} needs the package {package!r}, which is not installed; run: {command}",
        name=package,
    )


def _extra(provider: Distribution | None, scheme: str) -> str | None:
    """``distribution[extra]`` where the distribution has an extra of the scheme's name."""
    if provider is None or scheme not in (provider.metadata.get_all("Provides-Extra") or ()):
        return None
    return f"{provider.name}[{scheme}]"


def _broken(kind: str, entry: EntryPoint, error: Exception) -> StoreError:
    return StoreError(
        f"the {KINDS[kind]} {entry.name!r} of {_provider(entry)} does not load: {type(error).__name__}: {error}"
    )


def _provider(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
