"""What steps hand each other: which values can be kept, as what, and how an annotation brings them back.

JSON-able values are compared by canonical JSON, tables by their columns, arrays by their bytes, files by name and
content. So the same content has the same digest, whoever made it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.define.run_records import ArtifactType
from headway.errors import ArtifactError, DataError

ANY: Any = typing.Any
"""The annotation of what has none."""

_PREVIEW = 120
_SCALARS = (type(None), bool, int, float, str)
# Annotations that stay text because their module is imported for typing only.
_TABLE_NAMES = {
    "pandas": ("pd.DataFrame", "pandas.DataFrame"),
    "polars": ("pl.DataFrame", "polars.DataFrame"),
    "lazy": ("pl.LazyFrame", "polars.LazyFrame"),
}


class Unfit(DataError):
    """A value that does not fit its annotation, or cannot be kept; the message is the end of a sentence."""


@dataclass(frozen=True)
class Encoded:
    """A value ready to be written: ``write`` makes the file or folder at a path. ``size`` is known of some."""

    type: ArtifactType
    suffix: str
    digest: str
    preview: str
    write: Callable[[Path], object]
    size: int | None = None


def encode(value: Any, note: Any, *, allow_pickle: bool) -> Encoded:
    """What to keep of a value that was annotated as ``note``.

    Raises
    ------
    Unfit
        It is not what the annotation says, or nothing that can be kept.
    """
    check(value, note)
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
        return _flat("bytes", ".bin", content, f"{len(content)} bytes")
    if isinstance(value, Path):
        return _file(value)
    if _is_array(value):
        return _array(value, allow_pickle)
    if _speaks_arrow(value):
        return _table(value)
    try:
        return _json(value, note)
    except Unfit:
        if not allow_pickle:
            raise
    return _pickled(value)


def decode(type_: ArtifactType, path: Path, note: Any, *, allow_pickle: bool) -> Any:
    """The value kept at ``path``, as ``note`` wants it; a file is given as it lies there, to be copied.

    Raises
    ------
    Unfit
        It cannot be had as what the annotation says.
    ArtifactError
        It is a pickle and the project does not allow it.
    """
    if type_ == "json":
        return from_json(json.loads(path.read_bytes()), note)
    if type_ == "bytes":
        return bytearray(path.read_bytes()) if note is bytearray else path.read_bytes()
    if type_ == "arrow":
        return _read_table(path, note)
    if type_ == "npy":
        import numpy as np

        return np.load(path, allow_pickle=False)
    if type_ == "pickle":
        if not allow_pickle:
            raise ArtifactError(
                "it is kept as a pickle, which the project does not allow: allow_pickle in headway.toml"
            )
        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - the project allows it
    return path


def check(value: Any, note: Any) -> None:
    """Refuse a value that is not what its annotation says. Annotations nobody can check are let pass."""
    wrong = [_misfit(value, each) for each in _members(note)]
    if wrong and None not in wrong:
        raise Unfit(f"it is annotated {said(note)} and is {wrong[0] if len(wrong) == 1 else said(type(value))}")


def from_json(plain: Any, note: Any) -> Any:
    """JSON data as what an annotation says, where msgspec knows how."""
    if not _is_json_type(note):
        return plain
    try:
        return msgspec.convert(plain, note, str_keys=True)
    except msgspec.ValidationError as error:
        raise Unfit(f"it is annotated {said(note)}, and: {_first(error)}") from None


def canonical(value: Any) -> str:
    """Canonical JSON of JSON-able data, whatever the order of dicts and sets."""
    plain = msgspec.to_builtins(value, str_keys=True, order="deterministic", enc_hook=_scalar)
    return _dumped(plain, sort_keys=True)


def fingerprint(value: Any) -> str:
    """A text for a value that is the same for the same content and type: JSON, or a digest of what is no JSON.

    Raises
    ------
    Unfit
        There is no such text.
    """
    if isinstance(value, bytes | bytearray | Path) or _is_array(value) or _speaks_arrow(value):
        made = encode(value, ANY, allow_pickle=False)
        return f"{made.type} {made.digest}"
    _builtins(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_typed)


def _typed(value: Any) -> Any:
    return {said(type(value)): canonical(value)}


def digest_of(kind: str, *contents: bytes) -> str:
    """32 hex digits of some content; ``kind`` keeps the digests of JSON, tables and so on apart."""
    total = hashlib.blake2b(kind.encode() + b"\0", digest_size=16)
    for content in contents:
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def said(note: Any) -> str:
    """An annotation or a type as a user would write it."""
    if isinstance(note, str):
        return note
    if note is type(None) or note is None:
        return "None"
    if isinstance(note, type) and not typing.get_args(note):
        return note.__name__ if note.__module__ == "builtins" else f"{note.__module__.split('.')[0]}.{note.__name__}"
    return str(note).replace("typing.", "")


def element(note: Any) -> Any:
    """The annotation of the items of an annotated list."""
    arguments = typing.get_args(note)
    origin = typing.get_origin(note)
    if arguments and isinstance(origin, type) and issubclass(origin, typing.Iterable) and not issubclass(origin, dict):
        return arguments[0]
    return ANY


# Annotations


def _members(note: Any) -> tuple[Any, ...]:
    """The types of a union; nothing for an annotation that says nothing."""
    if note is None:
        return (type(None),)
    if note is ANY or note is object or isinstance(note, str | typing.TypeVar):
        return ()
    if typing.get_origin(note) in (typing.Union, types.UnionType):
        inner = [_members(each) for each in typing.get_args(note)]
        return () if () in inner else tuple(each for found in inner for each in found)
    return (note,)


def _misfit(value: Any, note: Any) -> str | None:
    """What ``value`` is, if it is not a ``note``."""
    kind = typing.get_origin(note) or note
    if _is_json_type(note) and note not in (bytes, bytearray):
        try:
            converted = msgspec.convert(_builtins(value), note, str_keys=True)
        except msgspec.ValidationError as error:
            return f"{said(type(value))}: {_first(error)}" if " - at " in str(error) else said(type(value))
        except Unfit:
            return None if isinstance(kind, type) and isinstance(value, kind) else said(type(value))
        if type(converted) is type(value) and not _is_plain(value):
            return None  # what it holds is looked at when it is kept
        odd = _unlike(value, converted)
        return odd if odd in (None, said(type(value))) else f"{said(type(value))} with {odd} inside"
    return said(type(value)) if isinstance(kind, type) and not _is_instance(value, kind) else None


def _is_instance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return True


def _is_json_type(note: Any) -> bool:
    """Whether msgspec converts to this annotation by itself."""
    if note is ANY or isinstance(note, str):
        return False
    try:
        found = msgspec.inspect.type_info(note)
    except Exception:  # noqa: BLE001 - msgspec refuses what it does not know in several ways
        return False
    return not isinstance(found, msgspec.inspect.CustomType | msgspec.inspect.AnyType)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].replace("`", "")


# JSON


def _json(value: Any, note: Any) -> Encoded:
    plain = _builtins(value)
    if not _is_plain(value):
        back = from_json(json.loads(_dumped(plain)), note)
        odd = _unlike(value, back)
        if odd is not None:
            raise Unfit(f"it holds {odd}, which JSON does not keep apart from others; say so in the annotation")
    text = _dumped(plain)
    return _flat("json", ".json", text.encode(), _short(text), canonical(value).encode())


def _builtins(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_scalar)
    except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
        raise Unfit(_not_kept(value, error)) from None


def _scalar(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and isinstance(value.item(), _SCALARS):
        return value.item()
    raise NotImplementedError(said(type(value)))


def _not_kept(value: Any, error: Exception | None = None) -> str:
    inside = ""
    if isinstance(error, NotImplementedError | TypeError) and isinstance(value, list | tuple | dict | set):
        inside = " with something inside that is none of these"
    return (
        f"it is {said(type(value))}{inside}, which cannot be kept: steps hand over JSON-able values, tables, numpy"
        " arrays, bytes and paths, and anything else only with allow_pickle = true in headway.toml"
    )


def _dumped(plain: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(plain, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)


def _is_plain(value: Any) -> bool:
    """Whether it comes back from JSON as it is, but for tuples, which come back as lists."""
    if isinstance(value, dict) and type(value) is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _SCALARS


def _unlike(value: Any, back: Any) -> str | None:
    """The type of the first thing inside ``value`` that came back as another; None if nothing did."""
    if isinstance(value, dict) and isinstance(back, dict):
        if set(value) != set(back):
            return next((f"{said(type(key))} as a key" for key in value if key not in back), said(type(value)))
        return next((odd for key in value if (odd := _unlike(value[key], back[key])) is not None), None)
    if isinstance(value, list | tuple) and isinstance(back, list | tuple):
        pairs = zip(value, back, strict=True)
        return next((odd for a, b in pairs if (odd := _unlike(a, b)) is not None), None)
    if type(value) is type(back):
        if hasattr(value, "__dataclass_fields__") or isinstance(value, msgspec.Struct):
            names: Any = getattr(value, "__dataclass_fields__", None) or getattr(value, "__struct_fields__", ())
            fields = ((getattr(value, name), getattr(back, name)) for name in names)
            return next((odd for a, b in fields if (odd := _unlike(a, b)) is not None), None)
        return None if value == back or value != value else said(type(value))
    plain = _scalar(value) if type(value).__module__ == "numpy" else value
    return None if isinstance(plain, int | float) and plain == back else said(type(value))


# Arrays and tables


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _array(value: Any, allow_pickle: bool) -> Encoded:
    import numpy as np

    if value.dtype.hasobject:
        if allow_pickle:
            return _pickled(value)
        raise Unfit("it is a numpy array of objects, which cannot be kept; give it a type, or make it a list")
    value = np.ascontiguousarray(value).reshape(value.shape)
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return _flat("npy", ".npy", buffer.getvalue(), f"{value.dtype} {'×'.join(map(str, value.shape)) or 'scalar'}")


def _speaks_arrow(value: Any) -> bool:
    kind = type(value)
    return any(hasattr(kind, name) for name in ("__arrow_c_stream__", "__arrow_c_array__"))


def _table(value: Any) -> Encoded:
    import pyarrow as pa

    try:
        table = _as_table(value).unify_dictionaries().combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
        raise Unfit(f"it is {said(type(value))}, which is no table that Arrow can hold: {_first(error)}") from None
    names = ", ".join(table.column_names)
    preview = _short(f"{table.num_rows} rows × {table.num_columns} columns: {names}")

    def write(path: Path) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
            writer.write_table(table)

    return Encoded("arrow", ".arrow", _table_digest(table), preview, write)


def _as_table(value: Any) -> Any:
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return pa.Table.from_pandas(value)  # keeps the index
    return pa.table(value)


def _table_digest(table: Any) -> str:
    """Of names, types and values. What lies beneath a null is not looked at where it could differ."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [str(sorted((table.schema.metadata or {}).items())).encode()]
    for field, column in zip(table.schema, table.columns, strict=True):
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        if array.null_count and pa.types.is_primitive(array.type):
            parts.append(np.packbits(np.asarray(array.is_valid())).tobytes())
            whole = array if pa.types.is_boolean(array.type) else array.view(f"int{array.type.bit_width}")
            array = pc.fill_null(whole, False if pa.types.is_boolean(array.type) else 0)
        sink = pa.BufferOutputStream()
        one = pa.record_batch([array], names=["column"])
        with pa.ipc.new_stream(sink, one.schema) as writer:
            writer.write_batch(one)
        parts.append(digest_of("column", f"{field}".encode(), memoryview(sink.getvalue())).encode())  # type: ignore[arg-type]
    return digest_of("arrow", *parts)


def _read_table(path: Path, note: Any) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    wanted = _table_kind(note)
    if wanted == "pandas":
        return table.to_pandas()
    if wanted in ("polars", "lazy"):
        import polars as pl

        frame = pl.from_arrow(table)
        return frame.lazy() if wanted == "lazy" and isinstance(frame, pl.DataFrame) else frame
    return table


def _table_kind(note: Any) -> str:
    """pandas, polars, lazy or arrow."""
    if isinstance(note, str):
        text = note.removesuffix(" | None")
        return next((kind for kind, names in _TABLE_NAMES.items() if text in names), "arrow")
    for each in _members(note):
        library = getattr(each, "__module__", "").partition(".")[0]
        name = getattr(each, "__name__", "")
        if library == "pandas" and name == "DataFrame":
            return "pandas"
        if library == "polars" and name in ("DataFrame", "LazyFrame"):
            return "lazy" if name == "LazyFrame" else "polars"
    return "arrow"


# Files, and the rest


def _file(path: Path) -> Encoded:
    if not path.exists():
        raise Unfit(f"it is the path {str(path)!r}, and there is nothing")
    whole = path.resolve()
    name = whole.name or "root"
    files = list(_below(whole))
    parts = [f"{file.relative_to(whole).as_posix()}\0".encode() + _file_hash(file) for file in files]
    size = sum(file.stat().st_size for file in files)
    kind = "folder" if whole.is_dir() else "file"
    preview = f"{name}/ with {len(files)} files, {size} bytes" if whole.is_dir() else f"{name}, {size} bytes"

    def write(target: Path) -> None:
        target.mkdir()
        copy_path(whole, target / name)

    return Encoded("file", f".{kind}", digest_of(kind, name.encode(), *parts), _short(preview), write)


def copy_path(source: Path, target: Path) -> None:
    """Copy a file or a folder, what links point to rather than the links."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None if there is nothing."""
    try:
        return sum(file.stat().st_size for file in _below(path)) if path.is_dir() else path.stat().st_size
    except OSError:
        return None


def _below(path: Path) -> Iterator[Path]:
    """A file itself; of a folder all its files, in order."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _file_hash(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()


def _pickled(value: Any) -> Encoded:
    try:
        content = pickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001 - an object refuses to be pickled in any way it likes
        raise Unfit(f"it is {said(type(value))}, which cannot be pickled: {_first(error)}") from None
    return _flat("pickle", ".pickle", content, said(type(value)))


def _flat(type_: ArtifactType, suffix: str, content: bytes, preview: str, counted: bytes | None = None) -> Encoded:
    digest = digest_of(type_, content if counted is None else counted)
    return Encoded(type_, suffix, digest, preview, lambda path: path.write_bytes(content), len(content))


def _short(text: str) -> str:
    return text if len(text) <= _PREVIEW else f"{text[: _PREVIEW - 1]}…"
