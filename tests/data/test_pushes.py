"""Pushed rows: on the disk when ``push`` returns, and once in the lake, whatever is killed in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from headway.data.engine import Engine
from headway.data.lake import Lake, open_lake
from headway.data.pushes import FOLDER, PushLog, move, state, sweep, waiting
from headway.define import Source
from headway.errors import DataError, StoreError

CLICKS = Source("clicks", schema={"n": "int64", "at": "timestamp"}, timestamp="at")
USERS = Source("users", schema={"user": "int64", "name": "string", "at": "timestamp"}, id="user", timestamp="at")
HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


def clicks(*numbers: int) -> pa.Table:
    at = pa.array([n * 1_000_000 for n in numbers], pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"n": pa.array(numbers, pa.int64()), "at": at})


def users(user: int, name: str) -> pa.Table:
    return pa.table({"user": [user], "name": [name], "at": pa.array([0], pa.timestamp("us", "UTC"))})


def numbers(lake: Lake, engine: Engine) -> list[int]:
    found = engine.query("select n from t order by __seq", {"t": lake.files("source/clicks")})
    return found.column("n").to_pylist()


def test_what_is_pushed_is_moved_once(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    log = PushLog(tmp_path, "one")
    log.push("clicks", clicks(1, 2), HOUR)
    log.push("clicks", clicks(3), HOUR + 1)
    assert waiting(tmp_path, CLICKS, lake) == 3
    (result,) = move(CLICKS, lake, engine, tmp_path)
    assert (result.rows, result.new) == (3, 3)
    assert move(CLICKS, lake, engine, tmp_path) == []
    assert waiting(tmp_path, CLICKS, lake) == 0
    log.push("clicks", clicks(4), HOUR + 2)
    move(CLICKS, lake, engine, tmp_path)
    assert numbers(lake, engine) == [1, 2, 3, 4]
    log.close()
    assert sweep(tmp_path, lake) == ["one/000000.seg"]
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_segment_stays_as_long_as_a_source_waits(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    log = PushLog(tmp_path, "one")
    log.push("clicks", clicks(1), HOUR)
    log.push("users", users(7, "a"), HOUR)
    log.close()
    move(CLICKS, lake, engine, tmp_path)
    assert sweep(tmp_path, lake) == []
    move(USERS, lake, engine, tmp_path)
    assert sweep(tmp_path, lake) == ["one/000000.seg"]


def test_a_version_is_known_from_its_arrival(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    log = PushLog(tmp_path, "one")
    for hour, name in enumerate(("a", "a", "b", "c")):
        log.push("users", users(7, name), hour * HOUR)
    log.close()
    move(USERS, lake, engine, tmp_path)
    rows = engine.query(
        "select name, epoch_us(__known) as known from t order by __seq", {"t": lake.files("source/users")}
    )
    assert rows.to_pylist() == [
        {"name": "a", "known": 0},
        {"name": "b", "known": 2 * HOUR},
        {"name": "c", "known": 3 * HOUR},
    ]


def test_rows_that_do_not_fit_any_more_stay_where_they_are(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    log = PushLog(tmp_path, "one")
    log.push("clicks", clicks(1), HOUR)
    log.close()
    narrower = Source("clicks", schema={"at": "timestamp"}, timestamp="at")
    with pytest.raises(DataError, match="column 'n' that was not expected"):
        move(narrower, lake, engine, tmp_path)
    assert waiting(tmp_path, CLICKS, lake) == 1
    move(CLICKS, lake, engine, tmp_path)
    assert numbers(lake, engine) == [1]


def test_a_full_disk_keeps_nothing_of_the_push_and_all_before(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    full = False

    def sync(file: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        os.fsync(file)

    log = PushLog(tmp_path, "one", sync=sync)
    log.push("clicks", clicks(1), HOUR)
    full = True
    with pytest.raises(StoreError, match=r"2 rows of source 'clicks' could not be written down \(No space left"):
        log.push("clicks", clicks(2, 3), HOUR)
    full = False
    log.push("clicks", clicks(4), HOUR)
    log.close()
    move(CLICKS, lake, engine, tmp_path)
    assert numbers(lake, engine) == [1, 4]


def test_many_threads_push_at_once(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    log = PushLog(tmp_path, "one")

    def work(thread: int) -> None:
        for n in range(20):
            log.push("clicks", clicks(thread * 100 + n), HOUR)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    move(CLICKS, lake, engine, tmp_path)
    found = numbers(lake, engine)
    assert sorted(found) == sorted(t * 100 + n for t in range(8) for n in range(20))
    for thread_number in range(8):  # the pushes of one thread keep their order
        mine = [n for n in found if n // 100 == thread_number]
        assert mine == sorted(mine)


def test_the_state_tells_that_something_was_pushed(tmp_path: Path) -> None:
    log = PushLog(tmp_path, "one")
    states = [state(tmp_path)]
    for n in range(2):
        log.push("clicks", clicks(n), HOUR)
        states.append(state(tmp_path))
    log.close()
    assert len({tuple(s) for s in states}) == 3
    assert states[-1] == state(tmp_path)


_PUSHER = """
import sys
from pathlib import Path
from tests.data.test_pushes import clicks
from headway.data.pushes import PushLog
home, name, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log = PushLog(home, name)
for n in range(first, first + 10_000):
    log.push("clicks", clicks(n), 0)
    print(n, flush=True)
"""
_MOVER = """
import sys
from pathlib import Path
from tests.data.test_pushes import CLICKS
from headway.data.engine import Engine
from headway.data.lake import open_lake
from headway.data.pushes import move, sweep
home = Path(sys.argv[1])
print("ready", flush=True)
with Engine(threads=1) as engine:
    while True:
        move(CLICKS, open_lake(str(home / "lake")), engine, home)
        sweep(home, open_lake(str(home / "lake")))
"""


def test_kills_of_pushers_and_movers_lose_and_repeat_nothing(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    """What was acknowledged is there once; of what was not, at most the one push that was under way."""
    chance = random.Random(3)
    acknowledged: set[int] = set()
    begun: set[int] = set()

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(tmp_path), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])

    def end(process: subprocess.Popen[str]) -> list[str]:
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        with process.stdout as rest:
            said = rest.read().splitlines()
        process.wait()
        return said

    mover = start(_MOVER)
    try:
        for round_ in range(4):
            first = round_ * 100_000
            pusher = start(_PUSHER, f"writer{round_}", str(first))
            assert pusher.stdout is not None
            seen = [int(pusher.stdout.readline()) for _ in range(chance.randint(5, 60))]
            seen += [int(line) for line in end(pusher)]
            acknowledged |= set(seen)
            begun |= {seen[-1] + 1}
            end(mover)
            mover = start(_MOVER)
            assert mover.stdout is not None
            mover.stdout.readline()
    finally:
        end(mover)
    move(CLICKS, lake, engine, tmp_path)
    found = numbers(lake, engine)
    assert len(found) == len(set(found))
    assert acknowledged <= set(found) <= acknowledged | begun
