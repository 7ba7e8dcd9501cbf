"""Steps with a timeout: warm workers, what kills them, and a run that is killed itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from headway.errors import Cancelled, ProjectCodeError

WORKERS = """
    import os, signal, subprocess, time, logging
    from pathlib import Path
    import pandas as pd
    @hw.step(timeout="1m")
    def pid(x: int) -> int:
        print("printed", x)
        logging.getLogger("mine").warning("logged")
        subprocess.run(["echo", "from a child"])
        return os.getpid()
    @hw.step(timeout="300ms", retries=1, backoff="1ms")
    def slow() -> int:
        Path("slow.txt").open("a").write(f"{os.getpid()} ")
        subprocess.run(["sleep", "30"])
        return 1
    @hw.step(timeout="1m")
    def dies(how: int) -> int:
        os.kill(os.getpid(), how)
        return 1
    @hw.step(timeout="1m")
    def raises() -> int:
        raise ValueError("no")
    @hw.step(timeout="1m")
    def table(days: int) -> pd.DataFrame:
        return pd.DataFrame({"a": range(days)})
    @hw.step(timeout="1m")
    def add(table: pd.DataFrame, more: list[int]) -> int:
        return int(table["a"].sum()) + sum(more)
    @hw.step
    def here(x: int) -> int:
        return x
    @hw.pipeline
    def warm(): pid(each={"x": list(range(6))})
    @hw.pipeline
    def late(): here(1, after=slow()), here(2)
    @hw.pipeline
    def death(how: int): dies(how), pid(1)
    @hw.pipeline
    def error(): raises()
    @hw.pipeline
    def data(): add(table(4), [here(1), here(2)])
    @hw.pipeline
    def forever(): endless(after=pid(0))
    @hw.step(timeout="1m")
    def endless() -> int:
        Path("endless.txt").write_text(str(os.getpid()))
        time.sleep(60)
        return 1
"""


@pytest.fixture
def project(steps):
    steps.write(a=WORKERS)
    return steps


def test_workers_are_kept_warm_and_print_into_the_logs(project, monkeypatch):
    monkeypatch.setenv("HEADWAY_THREADS", "2")
    project.run("warm")
    pids = {project.value(f"pid[x={x}]") for x in range(6)}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    log = project.log("pid[x=3]")
    assert "printed 3\n" in log
    assert "from a child\n" in log
    assert "WARNING mine: logged\n" in log
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_step_that_takes_too_long_is_ended_with_all_it_started(project):
    with pytest.raises(ProjectCodeError, match=r"step 'slow' failed: it took longer than its timeout of 300ms"):
        project.run("late")
    records = project.records()
    assert records["slow"].attempt == 2
    assert records["slow"].why == "attempt 1 failed: it took longer than its timeout of 300ms"
    assert (records["here"].status, records["here#2"].status) == ("skipped", "done")
    first, second = (project.root / "slow.txt").read_text().split()
    assert first != second
    assert not any("sleep 30" in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


@pytest.mark.parametrize(("how", "said"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL, perhaps for want")])
def test_a_worker_that_dies_is_replaced(project, how, said):
    with pytest.raises(ProjectCodeError, match=f"step 'dies' failed: its worker process was ended by {said}"):
        project.run("death", how=int(how))
    assert project.records()["pid"].status == "done"


def test_what_a_worker_raises_is_told_and_logged(project):
    with pytest.raises(ProjectCodeError, match=r"step 'raises' failed: ValueError: no \(.*a\.py:\d+\)"):
        project.run("error")
    assert "Traceback" in project.log("raises")


def test_data_goes_through_the_store(project):
    project.run("data")
    assert project.value("add") == 9


def test_a_cancelled_run_ends_its_workers_at_once(project):
    def cancel():
        while not (project.root / "endless.txt").exists() or not (project.root / "endless.txt").read_text():
            time.sleep(0.05)
        project.recorder.ask("somebody")

    threading.Thread(target=cancel).start()
    begin = time.monotonic()
    with pytest.raises(Cancelled, match="was cancelled by somebody"):
        project.run("forever")
    assert time.monotonic() - begin < 20
    records = project.records()
    assert (records["pid"].status, records["endless"].status) == ("done", "cancelled")
    assert not psutil.pid_exists(int((project.root / "endless.txt").read_text()))


MANY = """
    import os, time
    @hw.step
    def items() -> list[int]: return list(range(100))
    @hw.step{options}
    def work(item: int) -> int:
        with open("calls.txt", "a") as file:
            print(item, file=file)
        time.sleep(0.01)
        return item
    @hw.step
    def total(xs: list[int]) -> int: return sum(xs)
    @hw.pipeline
    def main(): total(work(each={{"item": items()}}))
"""
RUNNER = """
    import sys
    sys.path.insert(0, {here!r})
    from pathlib import Path
    from tests.orchestrate.steps.conftest import Steps
    Steps(Path({root!r})).run()
"""


@pytest.mark.parametrize("options", ["", '(timeout="1m")'])
def test_a_killed_run_is_taken_up_where_it_was(steps, options):
    steps.write(a=MANY.format(options=options))
    here = str(__import__("pathlib").Path(__file__).resolve().parents[3])
    code = textwrap.dedent(RUNNER.format(here=here, root=str(steps.root)))
    with subprocess.Popen([sys.executable, "-c", code], cwd=steps.root) as process:
        while len(seen(steps)) < 30:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    time.sleep(0.3)  # its workers see that it is gone
    assert not [p for p in psutil.process_iter(["cmdline"]) if "_worker" in " ".join(p.info["cmdline"] or ())]
    recorded = {key for key, record in steps.records().items() if record.status == "done" and "[" in key}
    assert 100 > len(recorded) >= 25
    begun = steps.calls()
    done = steps.run()
    again = steps.calls()
    assert {key for key, status in done.items() if status == "cached" and "[" in key} == recorded
    assert len(again) == 100 - len(recorded)
    assert set(begun) | set(again) == {str(i) for i in range(100)}
    assert len(begun) + len(again) <= 102  # what was under way when it was killed is done twice
    assert steps.value("total") == 4950


def seen(steps) -> list[str]:
    file = steps.root / "calls.txt"
    return file.read_text().split() if file.exists() else []
