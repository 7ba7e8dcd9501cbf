"""The tutorial does what it says: its files are written, its commands run, what they print is held against the page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.project import environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^(?:[^\n]*`(?P<file>[\w./]+)`[^`\n]*:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


class Command(NamedTuple):
    """A line after ``$`` and what the page says it prints."""

    line: str
    said: list[str]


def commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, said = part.partition("\n")
        yield Command(line, said.splitlines())


def matches(said: list[str], printed: str) -> str | None:
    """The first line of the page that the output does not have, in order; ``…`` stands for anything, columns may be as
    wide as they like."""
    lines = iter(printed.splitlines())
    for wanted in said:
        if wanted.strip() == "…":
            continue
        pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in wanted.split("…")]
        pattern = re.compile(r"\s*" + ".*".join(pieces))
        if not any(pattern.match(line) for line in lines):
            return wanted
    return None


@contextmanager
def in_background(line: str, folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    log = (folder / "up.log").open("w")
    process = subprocess.Popen(line, shell=True, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "up.log").read_text()
                time.sleep(0.1)
        else:
            pytest.fail((folder / "up.log").read_text())
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    for tool in ("curl", "bash"):
        if shutil.which(tool) is None:
            pytest.skip(f"the tutorial uses {tool}, which this machine does not have")
    (tmp_path / "examples" / "taxi").mkdir(parents=True)
    (tmp_path / "examples" / "taxi" / "data").symlink_to(ROOT / "examples" / "taxi" / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scripts = Path(sys.executable).parent
    env = {**environment(), "HEADWAY_SERVE_PORT": str(port), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    del env["PYTHONDONTWRITEBYTECODE"]  # a dozen processes: compile once
    folder = tmp_path
    with ExitStack() as running:
        for block in BLOCK.finditer(PAGE.read_text()):
            if block["kind"] in ("toml", "python") and block["file"]:
                (folder / block["file"]).write_text(block["text"])
            for command in commands(block["text"]) if block["kind"] == "console" else ():
                if command.line.startswith("cd "):
                    folder = folder / command.line[3:]
                    continue
                if command.line.endswith(" &"):
                    running.enter_context(in_background("exec " + command.line[:-2], folder, env, port))
                    continue
                line = command.line.replace("localhost:8000", f"localhost:{port}")
                ended = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True)
                assert ended.returncode in (0, 3), f"$ {line}\n{ended.stdout}\n{ended.stderr}"
                lacking = matches(command.said, ended.stdout)
                assert lacking is None, f"$ {line}\nthe page says {lacking!r}, it printed\n{ended.stdout}{ended.stderr}"
