"""What goes wrong with a database comes out as one of our errors, and a kill leaves whole lines."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from headway.errors import SettingsError, StoreBusy, StoreError
from headway.metadata import open_metadata
from headway.metadata._database import translated


def test_writes_are_synchronous_and_readers_do_not_wait(tmp_path: Path) -> None:
    opened = open_metadata(f"sqlite:///{tmp_path}/metadata.db", "p", "e")
    with opened as metadata, metadata._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_a_locked_database_is_busy(tmp_path: Path) -> None:
    file = tmp_path / "metadata.db"
    with open_metadata(f"sqlite:///{file}?timeout=0.05", "p", "e") as metadata:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert metadata.stages.get("train", "m") is None
            with pytest.raises(StoreBusy, match=r"metadata\.db is locked by somebody else .*; try again") as caught:
                metadata.stages.put("train", "m", "d", 1, at=1)
        assert caught.value.retryable
        metadata.stages.put("train", "m", "d", 1, at=1)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_text("hello " * 1000)

    with pytest.raises(StoreError, match=r"metadata\.db is not a sound SQLite database"):
        open_metadata(f"sqlite:///{tmp_path}/metadata.db", "p", "e")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="cannot be reached"):
        open_metadata(f"sqlite:///{tmp_path}/file/metadata.db", "p", "e")


def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("psycopg")

    with pytest.raises(StoreError, match=r"the metadata at 127\.0\.0\.1/headway failed: .*refused") as caught:
        open_metadata("postgresql://me:secret@127.0.0.1:1/headway", "p", "e")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://host/x", "what is this", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_are_not_ours(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///"):
        open_metadata(url, "p", "e")


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (sqlite3.SQLITE_FULL, StoreError, "the disk of the metadata db is full; make room"),
        (sqlite3.SQLITE_READONLY, StoreError, "cannot be written to"),
        (sqlite3.SQLITE_BUSY, StoreBusy, "locked"),
        (sqlite3.SQLITE_IOERR, StoreError, "failed: said by SQLite"),
    ],
)
def test_failures_of_the_disk_have_their_sentence(code: int, kind: type[StoreError], said: str) -> None:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code

    with pytest.raises(kind, match=said), translated("db"):
        raise error


def test_a_kill_leaves_every_line_that_was_answered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/metadata.db"
    code = (
        "from headway.metadata import open_metadata\n"
        f"log = open_metadata({url!r}, 'p', 'e').deployments\n"
        "while True:\n"
        "    line = log.append(action='promote', model='m', segment=None, version=1, by='b', at=1, why='')\n"
        "    print(line.id, flush=True)\n"
    )
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(20):
                last = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            last = max([last, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
        with open_metadata(url, "p", "e") as metadata:
            ids = [line.id for line in metadata.deployments.list("m")]
        assert ids == list(range(1, len(ids) + 1))
        assert last <= ids[-1] <= last + 1
