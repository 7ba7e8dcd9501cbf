"""The overhead of a step: ten small ones in a row and a fan-out, beside Metaflow and `airflow dags test`.

Every contender records durably what it does and hands values from step to step; none of the steps does any work.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from environments import HERE, environment
from harness import Section, answer, child, figure, median

STEPS, ITEMS = 10, 100
_LONGEST = 600  # seconds that one run of a peer may take
_FLOWS = """
import headway as hw

@hw.step
def here(x: int) -> int:
    return x + 1

@hw.step(timeout="1m")
def away(x: int) -> int:
    return x + 1

@hw.step
def total(xs: list[int]) -> int:
    return sum(xs)

@hw.pipeline
def chain_here(seed: int, steps: int):
    x = seed
    for _ in range(steps):
        x = here(x)

@hw.pipeline
def chain_away(seed: int, steps: int):
    x = seed
    for _ in range(steps):
        x = away(x)

@hw.pipeline
def fan_here(seed: int, items: int):
    total(here(each={"x": [seed + i for i in range(items)]}))

@hw.pipeline
def fan_away(seed: int, items: int):
    total(away(each={"x": [seed + i for i in range(items)]}))
"""
_LABELS = {"here": "headway, in process", "away": "headway, warm workers"}


def ours(directory: str, kind: str, repeats: int, items: int) -> dict[str, Any]:
    """Seconds of runs of a chain and of a fan-out, new ones and repeated ones; workers are started in each run."""
    import headway as hw

    place = Path(directory) / kind
    (place / "flows").mkdir(parents=True, exist_ok=True)
    (place / "headway.toml").write_text('[project]\nname = "flows"\ndefinitions = "flows"\n')
    (place / "flows" / "__init__.py").write_text(_FLOWS)
    found: dict[str, list[float]] = {}
    with hw.load(place) as project:
        for number in range(repeats + 1):
            seed = number * 100_000  # no two runs have a step in common
            pair, chain = {"seed": seed, "steps": 2}, {"seed": seed + 10_000, "steps": STEPS}
            fan = {"seed": seed + 20_000, "items": items}
            for name, pipeline, params in (
                ("pair", "chain", pair),
                ("chain", "chain", chain),
                ("again", "chain", chain),
                ("fan", "fan", fan),
            ):
                begin = perf_counter()
                done = project.run(f"{pipeline}_{kind}", params=params)
                seconds = perf_counter() - begin
                assert {each.outcome for each in done} == {"cached" if name == "again" else "done"}, done
                if number:  # the first runs load what libraries load at their first use
                    found.setdefault(name, []).append(seconds)
    return {name: median(seconds) for name, seconds in found.items()}


def headway_command(directory: Path, kind: str) -> float:
    """Seconds of the whole command for a chain that is new."""
    command = [
        sys.executable,
        "-m",
        "headway",
        "run",
        f"chain_{kind}",
        "--param",
        "seed=-100000",
        "--param",
        f"steps={STEPS}",
    ]
    return _seconds(command, directory / kind, {})


def metaflow(python: Path, directory: Path, items: int) -> dict[str, float]:
    place = directory / "metaflow"
    place.mkdir(exist_ok=True)
    env = {
        "USERNAME": "bench",
        "HOME": str(place),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(place),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
    }

    def run(script: str, *options: str) -> float:
        command = [str(python), str(HERE / "peers" / script), "--quiet", "--no-pylint", "run", *options]
        return _seconds(command, place, env)

    width = ["--max-num-splits", str(items), "--max-workers", str(os.cpu_count() or 1)]
    return _repeated(
        {
            "pair": lambda: run("metaflow_pair.py"),
            "chain": lambda: run("metaflow_chain.py"),
            "fan": lambda: run("metaflow_fan.py", "--items", str(items), *width),
        }
    )


def airflow(python: Path, directory: Path, items: int) -> dict[str, float]:
    place = directory / "airflow"
    place.mkdir(exist_ok=True)
    env = {
        "AIRFLOW_HOME": str(place),
        "HOME": str(place),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
        "ITEMS": str(items),
    }
    (place / "dags").mkdir(exist_ok=True)
    script = place / "dags" / "bench.py"
    script.write_text((HERE / "peers" / "airflow_dags.py").read_text())
    command = str(python.with_name("airflow"))
    if not (place / "airflow.db").exists():
        _seconds([command, "db", "migrate"], place, env)

    def run(dag: str) -> float:
        return _seconds([command, "dags", "test", dag, "-f", str(script)], place, env)

    return _repeated({name: functools.partial(run, name) for name in ("pair", "chain", "fan")})


def _repeated(runs: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least seconds of each, taking turns: most of them is starting up, which varies more than a step takes. The
    fan-out, which takes long, once."""
    runs["pair"]()  # the first run of all reads the packages from disk
    short = [{name: runs[name]() for name in ("pair", "chain")} for _ in range(3)]
    return {name: min(each[name] for each in short) for name in ("pair", "chain")} | {"fan": runs["fan"]()}


def _seconds(command: list[str], place: Path, env: Mapping[str, str]) -> float:
    begin = perf_counter()
    done = subprocess.run(
        command, cwd=place, env={**os.environ, **env}, capture_output=True, text=True, timeout=_LONGEST, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return perf_counter() - begin


_PEERS: Mapping[str, tuple[str, Callable[[Path, Path, int], dict[str, float]]]] = {
    "metaflow": ("Metaflow", metaflow),
    "airflow": ("airflow dags test", airflow),
}


def measure(directory: Path, quick: bool) -> Section:
    items = 10 if quick else ITEMS
    section = Section(
        f"Overhead of a step: {STEPS} in a row, and a fan-out of {items}",
        ("", "row: command s", "row: run s", "ms a step", "fan-out: run s", "ms an item", "row again s"),
        note=(
            "Steps that add one, so that all there is to see is what surrounds them; values go from step to step, and"
            " all is recorded durably. headway: medians of runs in a process that has the project loaded; a run with"
            " workers starts them. Peers: the fastest of three commands, all that they have, and one of the fan-out."
            " ms a step and an item: what the run takes more than one of two steps, divided. Row again: once more with"
            " nothing changed; the peers have no cache and do all of it again."
        ),
    )
    for kind, label in _LABELS.items():
        found = child(__file__, "ours", str(directory), kind, 2 if quick else 9, items)
        step = _row(section, label, headway_command(directory, kind), found, items)
        most = {"here": 10, "away": 50}[kind]
        section.judge(f"{label}, ms a step", step, f"≤ {most}", step <= most)
    for name, (label, run) in _PEERS.items():
        python = environment(name)
        if python is None:
            section.verdicts.append(f"{label}: left out, its packages cannot be installed here")
            continue
        found = run(python, directory, items)
        _row(section, label, found["chain"], {**found, "again": found["chain"]}, items)
    return section


def _row(section: Section, label: str, command: float, found: Mapping[str, float], items: int) -> float:
    """A line of the table; returns milliseconds a step."""
    step = 1000 * (found["chain"] - found["pair"]) / (STEPS - 2)
    item = 1000 * (found["fan"] - found["pair"]) / items
    section.rows.append((label, *map(figure, (command, found["chain"], step, found["fan"], item, found["again"]))))
    return step


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"ours": ours})
