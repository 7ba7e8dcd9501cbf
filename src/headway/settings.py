"""``headway.toml`` and the process environment, as one typed record that remembers where each value came from.

Two keys are enough for a laptop; each further environment names its parts::

    [project]
    name = "trips"
    definitions = "trips"

    [env.prod]
    online = "redis://:${CACHE_PASSWORD}@cache:6379/0"

Where a value is looked for, in this order: the variable ``HEADWAY_<KEY>``, the file, the default. ``${VAR}`` stands
for a variable of the process environment; what came through one is never shown.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

from headway.errors import NotFoundError, SettingsError, suggest

FILE = "headway.toml"
SOURCE_KEYS = ("path", "table", "connection")
"""What an environment may say of a source: where it is, and nothing of what it means."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([^{}]*)(\}?)")
_URL_PASSWORD = re.compile(r"(://[^/?#\s@:]*:)(?!\$\{\w+\}@)(?P<password>[^/?#\s]+)@")
_WORD_PASSWORD = re.compile(
    r"(?i)(\b(?:password|passwd|pwd|secret|token|\w*access_key)=)(?!\$\{\w+\}(?:[&;\s]|$))(?P<password>[^&;\s]+)"
)


@dataclass(frozen=True, slots=True)
class _Key:
    """What is known of a key of the file besides its default."""

    doc: str
    table: Literal["project", "env"] = "env"
    kind: Literal["text", "number", "yes or no", "sources"] = "text"
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    range: tuple[int, int] = (1, 2**31 - 1)
    secret: bool = False


_KEYS: Mapping[str, _Key] = {
    "name": _Key(
        "The project's name: in shared stores everything of the project is kept under it.", "project", pattern=_NAME
    ),
    "definitions": _Key("The Python package of the declarations.", "project", pattern=_MODULE),
    "allow_pickle": _Key(
        "Whether a model that has no data format may be kept as a pickle, which runs code when it is read.",
        "project",
        kind="yes or no",
    ),
    "clock": _Key(
        'What time it is: "wall", "data" (just after the newest row) or an instant such as "2024-02-01T00:00:00Z".'
    ),
    "maturity": _Key(
        'The least maturity a backend may have: "stable" refuses those that are only "beta".',
        choices=("stable", "beta"),
    ),
    "metadata": _Key("Where runs, deployments and audit are kept; by default SQLite under .headway."),
    "tracking": _Key("Where MLflow keeps its runs; by default SQLite under .headway."),
    "lake": _Key("Where the tables are that headway itself writes; by default a folder under .headway."),
    "online": _Key("Where the latest feature values are: a redis:// or lmdb:// URL; by default LMDB under .headway."),
    "compute": _Key("The engine that computes features."),
    "executor": _Key("What carries out the steps of a run."),
    "scheduler": _Key("What starts runs when they are due."),
    "memory_limit": _Key(
        'The memory that reading and computing may take before they spill to disk, such as "4GB" or "50%" of the '
        "machine's; 60% by default."
    ),
    "threads": _Key("How many threads, or worker processes, compute at a time; by default one a core.", kind="number"),
    "serve.host": _Key("The address the server listens on; 0.0.0.0 stands for every network."),
    "serve.port": _Key("The port the server listens on; 0 takes any free one.", kind="number", range=(0, 65_535)),
    "serve.hosts": _Key(
        "Names, with commas between, that may stand in a request's Host header besides loopback ones; * allows all."
    ),
    "serve.log": _Key(
        "What the prediction log does when the disk cannot keep up: drop rows and count them, or let requests wait; "
        "off keeps no log.",
        choices=("drop", "wait", "off"),
    ),
    "serve.log_rows": _Key("How many predicted rows the log may hold in memory.", kind="number", range=(1, 10_000_000)),
    "console.operator_token": _Key(
        "Who sends this token may start, promote and acknowledge; without it everybody who reaches the console may.",
        secret=True,
    ),
    "console.reader_token": _Key("Who sends this token may look at the console; with it, others may not.", secret=True),
    "alerts.webhook": _Key("A URL that gets every alert as JSON.", secret=True),
    "alerts.slack": _Key("A Slack-compatible webhook that gets every alert as text.", secret=True),
    "alerts.email": _Key("Addresses, with commas between, that get every alert by e-mail."),
    "alerts.smtp": _Key("The mail server, such as smtp://user:${SMTP_PASSWORD}@mail.example.com:587."),
    "alerts.command": _Key("A command that gets every alert as JSON on its standard input."),
    "alerts.repeat": _Key("After how many hours an alert that is still found is told again.", kind="number"),
    "sources": _Key(
        "Another path, or a table and its connection, for a source of the project; its schema must be the same.",
        kind="sources",
    ),
}
_REQUIRED = ("name", "definitions")

SETTINGS: Mapping[str, str] = {name: key.doc for name, key in _KEYS.items()}
"""Every setting, named as in the file (``name``, ``online``, ``serve.port``, …) → its sentence."""

VARIABLES: Mapping[str, str] = {
    f"HEADWAY_{name.upper().replace('.', '_')}": name
    for name, key in _KEYS.items()
    if name not in _REQUIRED and key.kind != "sources"
}
"""Variable of the process environment → the setting it overrides. ``HEADWAY_ENV`` chooses the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Where the prediction API listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    hosts: str = ""
    log: Literal["drop", "wait", "off"] = "drop"
    log_rows: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConsoleSettings:
    """Who may use the console."""

    operator_token: str | None = None
    reader_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AlertSettings:
    """Where alerts go; any number of these."""

    webhook: str | None = None
    slack: str | None = None
    email: str | None = None
    smtp: str | None = None
    command: str | None = None
    repeat: int = 24


_GROUPS: Mapping[str, type] = {"serve": ServeSettings, "console": ConsoleSettings, "alerts": AlertSettings}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """One environment of one project, made by `load_settings`: ``root`` is the folder of ``headway.toml``, ``env`` the
    environment's name, and the rest is what `SETTINGS` says. No text form of it shows a secret."""

    root: Path
    env: str
    project: str
    definitions: str
    allow_pickle: bool = False
    clock: str = "wall"
    maturity: Literal["stable", "beta"] = "beta"
    metadata: str | None = None
    tracking: str | None = None
    lake: str | None = None
    online: str | None = None
    compute: str = "duckdb"
    executor: str = "local"
    scheduler: str = "local"
    memory_limit: str | None = None
    threads: int | None = None
    serve: ServeSettings = field(default_factory=ServeSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    _origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    _shown: Mapping[str, str] = field(default_factory=dict, compare=False)
    _secrets: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def home(self) -> Path:
        """The folder of everything headway writes locally for this environment."""
        return self.root / ".headway" / self.env

    @property
    def metadata_url(self) -> str:
        return _anchored(self.metadata, self.root) if self.metadata else f"sqlite:///{self.home / 'metadata.db'}"

    @property
    def tracking_url(self) -> str:
        return _anchored(self.tracking, self.root) if self.tracking else f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def lake_uri(self) -> str:
        return _anchored(self.lake, self.root) if self.lake else str(self.home / "lake")

    @property
    def online_url(self) -> str:
        return _anchored(self.online, self.root) if self.online else f"lmdb://{quote(str(self.home / 'online'))}"

    @property
    def namespace(self) -> str:
        """What the environment's rows are kept under in a store that others share."""
        return f"{self.project}:{self.env}"

    @property
    def artifacts_dir(self) -> Path:
        return self.home / "artifacts"

    @property
    def locks_dir(self) -> Path:
        return self.home / "locks"

    def origin(self, name: str) -> str:
        """Where a setting came from: ``headway.toml [env.prod]``, ``HEADWAY_ONLINE environment variable``, ``default``.

        ``name`` is one of `SETTINGS`; raises `NotFoundError` for any other.
        """
        if name not in SETTINGS:
            raise NotFoundError.among("setting", name, SETTINGS)
        return self._origins.get(name, "default")

    def describe(self) -> tuple[tuple[str, str, str], ...]:
        """Name, value and origin of every setting, fit to be shown to anybody: what is secret is covered."""
        return tuple((name, _show(self, name), self.origin(name)) for name in SETTINGS)

    def redact(self, text: str) -> str:
        """The text with the secrets of these settings covered, for messages that somebody else's code has made.

        A secret under four characters is covered only inside a URL: it would be found in any text.
        """
        for secret, shown in sorted(self._secrets.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(secret, shown)
        return _covered(text)

    def expanded(self, where: str, text: str) -> str:
        """A text of a declaration with every ``${VAR}`` replaced; ``redact`` covers what came through one from then
        on. Raises `SettingsError`, which begins with ``where``, for a variable that is not set."""
        assert isinstance(self._secrets, dict)
        return _expanded(where, text, self._secrets)

    def anchored(self, url: str) -> str:
        """The URL of a database, a relative path of it taken from the project's folder."""
        return _anchored(url, self.root)

    def __repr__(self) -> str:
        said = "".join(f", {name}={_show(self, name)!r}" for name in SETTINGS if self.origin(name) != "default")
        return f"Settings(root={str(self.root)!r}, env={self.env!r}{said})"


class _Written(NamedTuple):
    """A value as it was written, and where."""

    value: Any
    origin: str
    literal: bool = True  # in the file, where ${VAR} stands for something


def load_settings(root: str | Path = ".", env: str | None = None) -> Settings:
    """The settings of one environment of the project at ``root``, or in the nearest folder above it.

    ``env`` names the environment; if it is None the variable ``HEADWAY_ENV`` does, else it is ``local``, which needs no
    section in the file. Raises `SettingsError`, and `NotFoundError` for an environment that the file does not have.
    """
    file = _find(Path(root))
    text = _text(file)
    project, environments = _sections(file, _parse(file, text))
    _refuse_misspelt_variables(text)
    chosen = env or os.environ.get("HEADWAY_ENV") or "local"
    if chosen not in environments:
        raise NotFoundError(f"{file} has no environment {chosen!r}; {suggest(chosen, environments)}")

    written = {name: _Written(value, f"{FILE} [project]") for name, value in project.items()}
    written |= {name: _Written(value, f"{FILE} [env.{chosen}]") for name, value in environments[chosen].items()}
    written |= {
        name: _Written(os.environ[variable], f"{variable} environment variable", literal=False)
        for variable, name in VARIABLES.items()
        if os.environ.get(variable)
    }
    secrets: dict[str, str] = {}
    values = {name: _value(file, name, at, secrets) for name, at in written.items()}
    return Settings(
        root=file.parent,
        env=chosen,
        project=values.pop("name"),
        **{group: kind(**_popped(values, f"{group}.")) for group, kind in _GROUPS.items()},
        **values,
        _origins={name: at.origin for name, at in written.items()},
        _shown={name: _shown_as(name, at) for name, at in written.items()},
        _secrets=secrets,
    )


def _popped(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the values whose names begin with ``prefix`` out, under the rest of their names."""
    return {name.removeprefix(prefix): values.pop(name) for name in list(values) if name.startswith(prefix)}


def _find(root: Path) -> Path:
    start = root.expanduser().resolve()
    if start.name == FILE:
        start = start.parent
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise SettingsError(
        f"no {FILE} in {start} or any folder above it; make a project with `headway new NAME`, or write a {FILE} with "
        '[project] and the two lines name = "NAME" and definitions = "PACKAGE", the package of your declarations'
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text, see byte {error.start}; save it as UTF-8") from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from None


def _sections(file: Path, document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """``[project]``, and every environment with its keys flat (``serve.port``). Unknown keys are refused in all of
    them, not only in the chosen one: a misspelt key of production is best met on the laptop."""
    _refuse_unknown(file, "", document, ("project", "env"))
    project = _table(file, "project", document.get("project", {}))
    _refuse_unknown(file, "project", project, [name for name, key in _KEYS.items() if key.table == "project"])
    for name in _REQUIRED:
        if name not in project:
            raise SettingsError(f"{file} has no {name!r} in [project]: {SETTINGS[name]}")
    known = [name for name, key in _KEYS.items() if key.table == "env"]
    environments: dict[str, dict[str, Any]] = {"local": {}}
    for name, section in _table(file, "env", document.get("env", {})).items():
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{file}: an environment's name has letters, digits, _ and - only, got {name!r}")
        environments[name] = dict(_flat(file, f"env.{name}", section))
        _refuse_unknown(file, f"env.{name}", environments[name], known)
        for source, place in _table(file, f"env.{name}.sources", environments[name].get("sources", {})).items():
            inner = f"env.{name}.sources.{source}"
            _refuse_unknown(file, inner, _table(file, inner, place), SOURCE_KEYS)
    return project, environments


def _table(file: Path, where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{file}: {where} is a table, [{where}], got {value!r}")
    return value


def _flat(file: Path, where: str, section: object) -> Iterator[tuple[str, Any]]:
    for name, value in _table(file, where, section).items():
        if name in _GROUPS:
            yield from ((f"{name}.{key}", inner) for key, inner in _table(file, f"{where}.{name}", value).items())
        else:
            yield name, value


def _refuse_unknown(file: Path, where: str, got: Iterable[str], known: Iterable[str]) -> None:
    for name in got:
        if name not in known:
            place = f"{file} [{where}]" if where else str(file)
            raise SettingsError(
                f"{place}: no {'setting' if where else 'table'} is called {name!r}; {suggest(name, known)}"
            )


def _refuse_misspelt_variables(text: str) -> None:
    """A variable that nearly has the name of one of ours would otherwise be silently without effect. One that the file
    refers to is the project's own."""
    own = {name for name, _ in _REFERENCE.findall(text)}
    ours = (*VARIABLES, "HEADWAY_ENV")
    for name in os.environ:
        if name.startswith("HEADWAY_") and name not in ours and name not in own:
            near = difflib.get_close_matches(name, ours, n=1, cutoff=0.9)
            if near:
                raise SettingsError(f"the environment variable {name} means nothing; did you mean {near[0]}?")


def _value(file: Path, name: str, written: _Written, secrets: dict[str, str]) -> Any:
    """The value of its type, with every ``${VAR}`` replaced. Adds what must not be shown to ``secrets``."""
    key, value = _KEYS[name], written.value
    where = f"{file.parent / written.origin}, {name}" if written.literal else written.origin
    if key.kind == "sources":
        return {
            source: {part: _expanded(f"{where}.{source}.{part}", inner, secrets) for part, inner in place.items()}
            for source, place in value.items()
        }
    if isinstance(value, datetime):  # TOML has times of its own, and clock = 2024-02-01T00:00:00Z should work
        value = value.isoformat()
    if isinstance(value, str) and written.literal:
        value = _expanded(where, value, secrets)
    elif isinstance(value, str):
        _remember_passwords(value, secrets)
    if key.secret and isinstance(value, str):
        _remember(value, "***", secrets)
    return _typed(where, key, value)


def _shown_as(name: str, written: _Written) -> str:
    """What may be shown of a value: of a secret no more than the variable it comes from."""
    text = _as_text(written.value)
    if _KEYS[name].secret and not (written.literal and _REFERENCE.fullmatch(text)):
        return "***"
    return _covered(text)


def _typed(where: str, key: _Key, value: Any) -> Any:
    if key.kind == "yes or no":
        found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
        if found is None:
            raise SettingsError(f"{where} is true or false, got {value!r}")
        return found
    if key.kind == "number":
        return _number(where, key, value)
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{where} is text, got {value!r}")
    if key.choices and value not in key.choices:
        raise SettingsError(f"{where} is one of {', '.join(key.choices)}, got {value!r}")
    if key.pattern and not key.pattern.fullmatch(value):
        what = "the name of a Python package" if key.pattern is _MODULE else "a name of letters, digits, _ and -"
        raise SettingsError(f"{where} is {what}, got {value!r}")
    return value


def _number(where: str, key: _Key, value: Any) -> int:
    low, high = key.range
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise SettingsError(f"{where} is a whole number from {low} to {high}, got {value!r}")
    return number


def _expanded(where: str, value: Any, secrets: dict[str, str]) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{where} is text, got {value!r}")

    def replacement(match: re.Match[str]) -> str:
        variable, closed = match.groups()
        if not closed or not _IDENTIFIER.fullmatch(variable):
            raise SettingsError(f"{where}: {match.group()!r} is not a variable; write ${{NAME}}")
        found = os.environ.get(variable)
        if not found:
            state = "is empty" if found == "" else "is not set"
            raise SettingsError(f"{where} needs the environment variable {variable}, which {state}")
        _remember(found, match.group(), secrets)
        return found

    expanded = _REFERENCE.sub(replacement, value)
    _remember_passwords(expanded, secrets)
    return expanded


def _remember_passwords(value: str, secrets: dict[str, str]) -> None:
    for pattern in (_URL_PASSWORD, _WORD_PASSWORD):
        for match in pattern.finditer(value):
            _remember(match["password"], "***", secrets)


def _remember(secret: str, shown: str, secrets: dict[str, str]) -> None:
    for form in (secret, unquote(secret)):
        if len(form) >= 4:
            secrets.setdefault(form, shown)


def _covered(text: str) -> str:
    """The text without the passwords that its own form gives away. A ``${VAR}`` stays: it tells nothing."""
    return _WORD_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***@", text))


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show(settings: Settings, name: str) -> str:
    if name in settings._shown:
        return settings._shown[name]
    derived = {"metadata": "metadata_url", "tracking": "tracking_url", "lake": "lake_uri", "online": "online_url"}
    value: Any = settings
    for part in derived.get(name, "project" if name == "name" else name).split("."):
        value = getattr(value, part)
    return "" if value is None or value == {} else _covered(_as_text(value))


def _anchored(setting: str, root: Path) -> str:
    """The place with a relative path taken from the project's folder, not from wherever the command was started."""
    scheme, separator, path = setting.partition("://")
    if not separator:
        return str(root / setting)
    if scheme.startswith("sqlite") and path.startswith("/") and not path.startswith("/:"):
        return f"{scheme}:///{root / path[1:]}"
    if scheme in ("lmdb", "file"):
        return setting if path.startswith("/") else f"{scheme}://{quote(str(root))}/{path}"
    return setting
