"""Artifacts on disk, each under the digest of its content: ``steps/ab/ab12….json``.

What is written survives a kill at any moment: it is made in a scratch folder, synced and renamed. What is there is
never written to again, so a run may be read while another one goes on.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.define.run_records import Artifact
from headway.errors import ArtifactError
from headway.locks import exclusive, is_held
from headway.orchestrate.steps._values import Encoded, copy_path, decode, encode, size_of

FOLDER = "steps"


@dataclass(frozen=True)
class ArtifactStore:
    """The artifacts of one environment. ``scratch`` is a folder of this run's own beside them."""

    root: Path
    scratch: Path
    allow_pickle: bool = False

    def put(self, value: Any, note: Any = Any) -> Artifact:
        """Keep a value that was annotated as ``note``.

        Raises
        ------
        Unfit
            The value is not what the annotation says, or nothing that can be kept.
        """
        made = encode(value, note, allow_pickle=self.allow_pickle)
        place = self.root / FOLDER / made.digest[:2] / f"{made.digest}{made.suffix}"
        size = size_of(place)
        if size is None or size != made.size:
            size = self._write(made, place)
        path = place / next(place.iterdir()).name if made.type == "file" else place
        return Artifact(made.digest, made.type, size, path.relative_to(self.root).as_posix(), made.preview)

    def _write(self, made: Encoded, place: Path) -> int:
        """Write what is not there, or not as it was; returns its size."""
        new = self.folder()
        new.parent.mkdir(parents=True, exist_ok=True)
        made.write(new)
        size = size_of(new) or 0
        if size_of(place) != size:
            _move(new, place)
        return size

    def folder(self) -> Path:
        """A path in the scratch folder that nobody else has; there is nothing yet."""
        return self.scratch / uuid.uuid4().hex

    def has(self, artifact: Artifact) -> bool:
        """Whether an artifact is still there, with the size it had."""
        return size_of(self.root / artifact.path) == artifact.size

    def get(self, artifact: Artifact, note: Any = Any, folder: Path | None = None) -> Any:
        """The value of an artifact as ``note`` wants it. A file is copied into ``folder``, for the caller to keep.

        Raises
        ------
        ArtifactError
            It is not there any more.
        Unfit
            It cannot be had as what the annotation says.
        """
        path = self.root / artifact.path
        try:
            value = decode(artifact.type, path, note, allow_pickle=self.allow_pickle)
        except FileNotFoundError:
            raise ArtifactError(f"the artifact {artifact.path} is gone; run the step that makes it again") from None
        if artifact.type != "file" or folder is None:
            return value
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(tempfile.mkdtemp(dir=folder)) / path.name
        copy_path(path, target)
        return target


@contextmanager
def opened(root: Path, *, allow_pickle: bool) -> Iterator[ArtifactStore]:
    """The store under ``root`` with a scratch folder, which is removed in the end; so are those of dead processes."""
    folders = root / FOLDER / "scratch"
    folders.mkdir(parents=True, exist_ok=True)
    for left in folders.iterdir():
        if is_held(left / "lock") is False:
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folders))
    with exclusive(scratch / "lock", "this run's scratch folder", patience=1):
        try:
            yield ArtifactStore(root, scratch, allow_pickle)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Have ``source`` stand at ``target`` for good, whatever stands there now."""
    _sync(source)
    for folder, folders, names in os.walk(source) if source.is_dir() else ():
        for name in (*names, *folders):
            _sync(Path(folder) / name)
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True)
        _sync(target.parent.parent)
    if target.is_dir():  # damaged: a sound one would not be written again
        shutil.rmtree(target)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else somebody else put the same folder there
            raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
