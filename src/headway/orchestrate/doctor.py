"""Looking at a set-up from the outside in: each finding says what was seen and, if it is wrong, its mend."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import msgspec

from headway.define import Source
from headway.define._collect import Declarations, collect
from headway.errors import HeadwayError, NotFoundError
from headway.orchestrate._stores import online_backend, online_opener
from headway.orchestrate.unchanged import file_place
from headway.settings import Settings, load_settings

LEAST_SPACE = 500 * 2**20
EXTRAS = {"lightgbm": "lightgbm", "xgboost": "xgboost", "onnxruntime": "onnx", "skl2onnx": "onnx"}


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at."""

    what: str
    ok: bool
    found: str
    mend: str = ""


def examine(root: str, env: str | None, port: int | None) -> list[Finding]:
    """Every finding about a project in an environment; never raises."""
    try:
        settings = load_settings(root, env)
    except HeadwayError as error:
        return [Finding("settings", False, str(error), "mend headway.toml; the docs list every setting")]
    found = [Finding("settings", True, f"{settings.root}, environment {settings.env}")]
    declarations = None
    try:
        declarations = collect(settings.definitions, settings.root)
        found.append(Finding("declarations", True, _counted(declarations)))
    except HeadwayError as error:
        found.append(Finding("declarations", False, str(error), "mend the declaration named above"))
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _disk(settings),
        lambda: _locks(settings),
        lambda: _online(settings),
        lambda: _metadata(settings),
        lambda: _port(settings, port),
    ]
    if declarations is not None:
        seen = declarations
        looks += [lambda: _files(settings, seen), lambda: _extras(seen)]
    for look in looks:
        found.extend(look())
    return found


def _counted(d: Declarations) -> str:
    return f"{len(d.sources)} sources, {len(d.views)} views, {len(d.models)} models"


def _disk(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".doctor"
        with probe.open("wb") as out:
            out.write(b"\0" * 4096)
            out.flush()
            os.fsync(out.fileno())
        probe.unlink()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "free some space" if full else f"let this user write to {home}"
        yield Finding("disk", False, f"{home} cannot be written to: {error.strerror}", mend)
        return
    free = shutil.disk_usage(home).free
    ok = free >= LEAST_SPACE
    mend = "" if ok else f"free some space; headway wants at least {LEAST_SPACE >> 20} MB"
    yield Finding("disk", ok, f"{free / 2**30:.1f} GB free at {home}", mend)


def _locks(settings: Settings) -> Iterator[Finding]:
    for file in sorted(settings.locks_dir.glob("*.lock")) if settings.locks_dir.is_dir() else []:
        try:
            holder = json.loads(file.read_text() or "{}")
        except (OSError, ValueError):
            continue
        if not isinstance(holder, dict) or "pid" not in holder:
            continue
        who = f"process {holder['pid']} ({holder.get('command', 'unknown')})"
        if holder.get("host") != socket.gethostname():
            yield Finding("lock", True, f"{file.name} is held by {who} on {holder.get('host')}")
        elif _alive(holder["pid"]):
            yield Finding("lock", True, f"{file.name} is held by {who}, which is running")
        else:
            yield Finding(
                "lock",
                False,
                f"{file.name} names {who}, which is dead: it was killed in the middle of its work",
                f"nothing is blocked by it; run `headway run` to finish that work, or delete {file}",
            )


def _alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _online(settings: Settings) -> Iterator[Finding]:
    from headway.data.online import Examined

    try:
        backend, store = online_backend(settings), online_opener(settings)(True)
        try:
            held = len(store.prefixes())
            concerns = store.concerns() if isinstance(store, Examined) else []
        finally:
            store.close()
    except HeadwayError as error:
        mend = "choose another backend under `online`" if isinstance(error, NotFoundError) else "see the sentence above"
        yield Finding("online store", False, settings.redact(str(error)), mend)
        return
    yield Finding("online store", True, f"{backend.scheme} ({backend.maturity}), {held} view definitions held")
    for concern in concerns:
        yield Finding("online store", False, concern.found, concern.mend)


def _metadata(settings: Settings) -> Iterator[Finding]:
    from headway.metadata import open_metadata

    try:
        with open_metadata(settings.metadata_url, settings.project, settings.env) as metadata:
            count = len(metadata.versions.models())
    except HeadwayError as error:
        yield Finding("metadata", False, settings.redact(str(error)), "see the sentence above")
        return
    yield Finding("metadata", True, f"{settings.redact(settings.metadata_url)}, {count} models with versions")


def _port(settings: Settings, port: int | None) -> Iterator[Finding]:
    wanted = settings.serve.port if port is None else port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.serve.host, wanted))
        except OSError as error:
            mend = f"end what listens there, or use `headway serve --port {wanted + 1}`"
            yield Finding("port", False, f"{settings.serve.host}:{wanted}: {error.strerror}", mend)
            return
    yield Finding("port", True, f"{settings.serve.host}:{wanted} is free")


def _files(settings: Settings, declarations: Declarations) -> Iterator[Finding]:
    for source in declarations.sources.values():
        path = file_place(settings, source)
        if path is None:
            yield from _table(settings, source)
            continue
        files = sorted(settings.root.glob(path)) if not Path(path).is_absolute() else _absolute(path)
        if not files:
            yield Finding(
                "source", False, f"{source.name}: no file matches {path}", f"put files there, or mend {source.place}"
            )
            continue
        unreadable = [f for f in files if not _readable(f)]
        if unreadable:
            mend = f"let this user read it (chmod u+r {unreadable[0]})"
            yield Finding("source", False, f"{source.name}: {unreadable[0]} cannot be read", mend)
        else:
            yield Finding("source", True, f"{source.name}: {len(files)} file{'s' if len(files) > 1 else ''}")


def _table(settings: Settings, source: Source) -> Iterator[Finding]:
    """Can the database of a source be reached?"""
    from headway.orchestrate.ingest import open_table, place_of

    try:
        place = place_of(settings, source)
        if place.kind != "table":
            return
        open_table(settings, source, place).close()
    except HeadwayError as error:
        yield Finding("source", False, settings.redact(str(error)), f"see to the connection of {source.name}")
        return
    yield Finding("source", True, f"{source.name}: its database answers")


def _absolute(pattern: str) -> list[Path]:
    return [Path(f) for f in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute one


def _readable(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError:
        return False
    return os.access(file, os.R_OK) and bool(file.stat().st_mode & 0o444)


def _extras(declarations: Declarations) -> Iterator[Finding]:
    for model in declarations.models.values():
        if not isinstance(model.estimator, str):
            continue
        yield _estimator(model.name, model.estimator)


def _estimator(model: str, wanted: str) -> Finding:
    module, _, name = wanted.partition(":")
    top = module.partition(".")[0]
    if not top or find_spec(top) is None:
        extra = EXTRAS.get(top)
        package = f"headway[{extra}]" if extra else top
        return Finding("estimator", False, f"{model}: {top or wanted} is not installed", f"pip install '{package}'")
    try:
        found = hasattr(import_module(module), name)
    except Exception as error:  # noqa: BLE001 - a package that does not import may raise anything
        return Finding("estimator", False, f"{model}: {module} does not import: {error}", f"reinstall {top}")
    if not found:
        return Finding("estimator", False, f"{model}: {module} has no {name!r}", "mend the model's estimator")
    return Finding("estimator", True, f"{model}: {wanted}")
