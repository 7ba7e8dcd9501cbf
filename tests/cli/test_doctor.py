"""What ``headway doctor`` finds in a broken set-up: the problem by name, and its mend."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.project import Outcome, Shop, environment


def findings(shop: Shop, *arguments: str, code: int) -> list[dict[str, Any]]:
    """Everything found. The text for people names the same problems as the JSON does."""
    port = () if "--port" in arguments else ("--port", "0")
    found: list[dict[str, Any]] = shop.call("doctor", "--json", *port, *arguments, code=code).json()
    told = shop.call("doctor", *port, *arguments, code=code).out
    for finding in found:
        assert finding["ok"] or finding["mend"]
        assert finding["what"] == "disk" or finding["found"] in told  # free space changes all the time
        assert finding["mend"] in told
    return found


def problem(shop: Shop, *arguments: str) -> dict[str, Any]:
    """The only thing wrong."""
    wrong = [f for f in findings(shop, *arguments, code=1) if not f["ok"]]
    assert len(wrong) == 1, wrong
    return wrong[0]


def test_all_is_well_before_and_after_a_run(shop: Shop, empty: Shop) -> None:
    assert all(f["ok"] for f in findings(shop, code=0))
    assert all(f["ok"] for f in findings(empty, code=0))
    assert "all is well" in shop.call("doctor", "--port", "0").out


def test_a_port_that_is_taken(shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = problem(shop, "--port", str(port))
    assert found["what"] == "port"
    assert str(port) in found["found"]
    assert f"--port {port + 1}" in found["mend"]


def test_a_source_without_files(shop: Shop) -> None:
    (shop.root / "data/visits.parquet").unlink()
    found = problem(shop)
    assert "visits: no file matches data/visits.parquet" in found["found"]
    assert "sources.py:" in found["mend"]


def test_a_file_nobody_may_read(shop: Shop) -> None:
    # Root reads everything, so doctor looks at the mode as well.
    (shop.root / "data/shops.parquet").chmod(0)
    found = problem(shop)
    assert "shops.parquet cannot be read" in found["found"]
    assert "chmod u+r" in found["mend"]


def test_a_package_that_is_not_installed(shop: Shop) -> None:
    shop.edit("shop/models.py", "estimator=ridge", 'estimator="notinstalledpkg:Model"')
    found = problem(shop)
    assert found["found"] == "delivery: notinstalledpkg is not installed"
    assert found["mend"] == "pip install 'notinstalledpkg'"


@pytest.mark.parametrize(("estimator", "expected"), [("sklearn.linear_model:Rigde", "Rigde"), (":Model", ":Model")])
def test_an_estimator_that_is_not_there(shop: Shop, estimator: str, expected: str) -> None:
    shop.edit("shop/models.py", "estimator=ridge", f'estimator="{estimator}"')
    assert expected in problem(shop)["found"]


def dead() -> int:
    """The id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_the_lock_of_a_dead_process(shop: Shop) -> None:
    pid = dead()
    lock = shop.home / "locks/run.lock"
    lock.write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "command": "headway run"}))
    found = problem(shop)
    assert found["what"] == "lock"
    assert f"process {pid} (headway run), which is dead" in found["found"]
    assert "headway run" in found["mend"]
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 900.0')
    shop.call("run")  # the lock is in nobody's way
    findings(shop, code=0)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"pid": "x"}', '{"pid": null, "host": "%h"}', '{"pid": 1e400}'])
def test_a_lock_file_of_nonsense_breaks_nothing(shop: Shop, text: str) -> None:
    (shop.home / "locks/run.lock").write_text(text.replace("%h", socket.gethostname()))
    outcome = shop.call("doctor", "--json", "--port", "0", code=None)
    assert outcome.json()
    assert outcome.code in (0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[project\n", "headway.toml"),
        ('[project]\nname = "shop"\n', "definitions"),
        ('[project]\nname = "shop"\ndefinitions = "shop"\n[env.local]\nclok = "wall"\n', "clok"),
    ],
)
def test_broken_settings(shop: Shop, text: str, expected: str) -> None:
    (shop.root / "headway.toml").write_text(text)
    found = problem(shop)
    assert found["what"] == "settings"
    assert expected in found["found"]


def test_no_project_at_all(tmp_path: Path) -> None:
    assert "headway.toml" in problem(Shop(tmp_path))["found"]


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("shop/features.py", 'window="7d"), "minutes_7d"', 'window="7 parsecs"), "minutes_7d"', "features.py:"),
        ("shop/sources.py", "import headway as hw", "import headway as hw\n1 / 0", "sources.py:2"),
        ("shop/models.py", "import headway as hw", "import headway as hw\ndef", "models.py:"),
    ],
)
def test_a_broken_declaration(shop: Shop, file: str, old: str, new: str, expected: str) -> None:
    shop.edit(file, old, new)
    found = problem(shop)
    assert found["what"] == "declarations"
    assert expected in found["found"]


def test_metadata_that_are_no_database(shop: Shop) -> None:
    for beside in shop.home.glob("metadata.db*"):
        beside.unlink()
    (shop.home / "metadata.db").write_bytes(b"this is no database" * 400)
    assert problem(shop)["what"] == "metadata"


def test_an_online_store_nobody_knows(shop: Shop) -> None:
    shop.edit("headway.toml", "[env.local]", '[env.local]\nonline = "paper://desk"')
    found = problem(shop)
    assert found["what"] == "online store"
    assert "paper" in found["found"]


def test_a_folder_that_is_in_the_way(empty: Shop) -> None:
    (empty.root / ".headway").write_text("not a folder")
    wrong = [f for f in findings(empty, code=1) if not f["ok"]]
    assert wrong[0]["what"] == "disk"


def test_a_full_disk_as_the_system_reports_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    # Mounting a tiny file system is not allowed everywhere, so the system's answer is given by hand.
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    found = shop.call("doctor", "--json", "--port", "0", code=1).json()
    disk = next(f for f in found if f["what"] == "disk")
    assert "No space left" in disk["found"]
    assert "free some space" in disk["mend"]


def test_a_disk_that_takes_no_bytes(shop: Shop) -> None:
    """A limit on file size stands for a disk that is full: nothing more can be written, by doctor or by a run."""
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 900.0')
    doctor, run = limited(shop, "doctor", "--port", "0"), limited(shop, "run")
    assert doctor.code == 1
    assert "cannot be written to" in doctor.out
    assert run.code == 1
    assert "headway: " in run.err


def limited(shop: Shop, *arguments: str) -> Outcome:
    ended = subprocess.run(
        shop.command(*arguments),
        cwd=shop.root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
    return Outcome(ended.returncode, ended.stdout, ended.stderr)
