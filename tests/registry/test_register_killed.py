"""A process may be killed anywhere in a registration, and several may register at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headway.define.records import VersionRecord
from headway.metadata import Metadata
from headway.registry import Registry

REGISTER = """
import os, signal, sys
from pathlib import Path
import msgspec
from headway.define.records import VersionRecord
from headway.metadata import Versions, open_metadata
from headway.registry import Registry

root, staging, draft, where, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
places = {"fsync": (os, "fsync"), "rename": (Path, "rename"), "add": (Versions, "add")}
if where:
    owner, name = places[where]
    real = getattr(owner, name)

    def deadly(*args, **kwargs):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)
metadata = open_metadata(f"sqlite:///{root}/metadata.db", "trips", "local")
registry = Registry(metadata, root / "artifacts", lambda: 1)
print(registry.register(staging, msgspec.json.decode(draft, type=VersionRecord)).version)
"""


def _command(root: Path, staging: Path, draft: VersionRecord, where: str = "", when: str = "") -> list[str]:
    text = msgspec.json.encode(draft).decode()
    return [sys.executable, "-c", REGISTER, str(root), str(staging), text, where, when]


@pytest.mark.parametrize(
    ("where", "when"),
    [("fsync", "before"), ("rename", "before"), ("rename", "after"), ("add", "before"), ("add", "after")],
)
def test_a_killed_registration_is_done_again(
    registry: Registry,
    metadata: Metadata,
    tmp_path: Path,
    draft: Callable[..., VersionRecord],
    stage: Callable[..., Path],
    where: str,
    when: str,
) -> None:
    registry.register(stage("first"), draft("d1"))
    killed = subprocess.run(_command(tmp_path, stage("second"), draft("d2"), where, when), capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    versions = registry.versions("m")
    assert len(versions) == (2 if (where, when) == ("add", "after") else 1)
    for record in versions:
        registry.verify_files(record)

    again = registry.register(stage("second, trained again"), draft("d2"))

    assert again.version == 2
    registry.verify_files(again)
    assert sorted(p.name for p in (tmp_path / "artifacts" / "m").iterdir()) == ["1", "2"]


def test_processes_register_at_once(
    registry: Registry, tmp_path: Path, draft: Callable[..., VersionRecord], stage: Callable[..., Path]
) -> None:
    digests = ["d1", "d2", "d3", "d3"]
    commands = [_command(tmp_path, stage(digest), draft(digest)) for digest in digests]
    children = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    numbers = [json.loads(child.communicate(timeout=120)[0]) for child in children]

    assert sorted(set(numbers)) == [1, 2, 3]
    assert numbers[2] == numbers[3]
    for record in registry.versions("m"):
        registry.verify_files(record)
        assert (registry.directory(record) / "pooled.txt").read_text() == record.digest
