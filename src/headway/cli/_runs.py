"""runs list, show, logs, diff, rerun, cancel; and execute, which a dispatcher starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli._show import Dir, Env, Json, moment, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.define.run_records import RunRecord, StepRecord
    from headway.orchestrate.runs.history import Link, RunHistory
    from headway.project import Project

app = typer.Typer(help="What ran and runs: steps, logs, differences.", no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[int, typer.Argument(help="The number of the run, as `headway runs list` shows it.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="A pipeline's parameter, as name=value; may be given many times.")
]
Why = Annotated[str, typer.Option("--why", help="The reason, for the audit.", show_default=False)]

_BAR = 24
_PAUSE = 0.3


@contextmanager
def history(project: str, env: str | None) -> Iterator[RunHistory]:
    """The records of runs, without the project's code: it may be what is broken."""
    from headway.orchestrate.runs.history import RunHistory
    from headway.project import backend
    from headway.settings import load_settings

    settings = load_settings(project, env)
    opened = backend(settings, "metadata_stores", settings.metadata_url)
    with opened(settings.metadata_url, settings.project, settings.env) as metadata:
        yield RunHistory(settings, metadata)


@app.command("list")
def list_(
    status: Annotated[
        list[str] | None, typer.Option(help="Only these: queued, running, done, failed, refused, cancelled, crashed.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only runs of this target or pipeline.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Runs, the newest first."""
    from typing import get_args

    from headway.define.run_records import RunStatus
    from headway.errors import NotFoundError

    for one in status or ():
        if one not in get_args(RunStatus):
            raise NotFoundError.among("status of a run", one, get_args(RunStatus))
    with history(project, env) as runs:
        found = runs.list(status=tuple(status or ()), name=name, limit=limit)  # type: ignore[arg-type]
    if json:
        print_json(found)
        return
    print_table(
        ["run", "what", "parameters", "status", "started", "seconds", "by", "said"],
        [(r.id, _what(r), r.params, r.status, moment(r.started_at), _took(r), _who(r), r.error) for r in found],
        "no run yet; `headway run` makes one" if not (status or name) else "no such run",
    )


@app.command()
def show(id: Id, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """A run with its steps, when each ran, and where what it read came from."""
    with history(project, env) as runs:
        run, steps, links = runs.get(id), runs.steps(id), runs.lineage(id)
    if json:
        print_json({"run": run, "steps": steps, "lineage": links})
        return
    print(f"run {run.id}: {_what(run)}: {run.status}")
    for what, value in (
        ("parameters", ", ".join(f"{k}={v}" for k, v in run.params.items())),
        ("started", moment(run.started_at)),
        ("seconds", _took(run)),
        ("by", _who(run)),
        ("process", f"{run.pid} on {run.host}" if run.pid else None),
        ("commit", run.commit),
        ("repeats", f"run {run.parent}{f' from {run.from_step}' if run.from_step else ''}" if run.parent else None),
        ("schedule", f"{run.schedule}, due {moment(run.slot)}" if run.schedule else None),
        ("said", run.error),
    ):
        if value:
            print(f"  {what:<11} {value}")
    print()
    print_table(
        ["step", "status", "seconds", _scale(run, steps), "what"],
        [(s.key, s.status, _seconds(s), _bar(run, s, _end(run, steps)), s.error or s.detail or s.why) for s in steps],
        "no steps: it has not begun, or ended before it knew them",
    )
    _print_lineage(links)
    if run.status in ("crashed", "failed", "cancelled"):
        print(f"\nto go on from what is finished: headway runs rerun {run.id}")


def _print_lineage(links: Sequence[Link]) -> None:
    told = [link for link in links if link.inputs or link.output]
    if told:
        print()
        print_table(["step", "reads", "puts out", "used by"], [_link(link) for link in told], "")


def _link(link: Link) -> tuple[str, str, str, str]:
    read = [f"{name}={link.origins.get(name) or digest[:8]}" for name, digest in link.inputs.items()]
    made = "" if link.output is None else f"{link.output.digest[:8]} {link.output.preview}".strip()
    return link.key, ", ".join(read), made, ", ".join(link.used_by)


@app.command()
def logs(
    id: Id,
    step: Annotated[str | None, typer.Argument(help="One step; all if none is given.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    project: Dir = ".",
    env: Env = None,
) -> None:
    """What the steps of a run printed, tracebacks included."""
    with history(project, env) as runs:
        reader = _LogReader(runs, id, step)
        while not reader.print_new() and follow:
            time.sleep(_PAUSE)
        if not reader.printed:
            print(reader.nothing(), file=sys.stderr)


class _LogReader:
    """Prints what was added to a run's logs since it last looked."""

    def __init__(self, runs: RunHistory, id: int, step: str | None) -> None:
        self._runs, self._id, self._step = runs, id, step
        self._offsets: dict[str | None, int] = {}
        self._last: str | None = None
        self.printed = False

    def print_new(self) -> bool:
        """Whether the run had ended before this look, so that there is nothing more to come."""
        from headway.define.run_records import ENDED

        run = self._runs.get(self._id)
        for key in self._keys():
            text, self._offsets[key] = self._runs.logs(self._id, key, self._offsets.get(key, 0))
            if text:
                self._print(key, text)
        return run.status in ENDED

    def _keys(self) -> list[str | None]:
        """The steps to look at; for a run whose steps printed nothing, its process."""
        from headway.errors import NotFoundError

        keys = [step.key for step in self._runs.steps(self._id)]
        if self._step is None:
            silent = not any(self._runs.logs(self._id, key)[1] for key in keys)
            return [*keys, *([None] if silent else [])]
        chosen = [key for key in keys if key == self._step or key.partition("[")[0] == self._step]
        if not chosen:
            raise NotFoundError.among(
                f"step of run {self._id}", self._step, {*(k.partition("[")[0] for k in keys), *keys}
            )
        return [*chosen]

    def _print(self, key: str | None, text: str) -> None:
        if key != self._last and key is not None:
            print(f"── {key}")
        self._last, self.printed = key, True
        print(text, end="" if text.endswith("\n") else "\n", flush=True)

    def nothing(self) -> str:
        run = self._runs.get(self._id)
        return f"nothing was printed, or it is on the machine that ran it ({run.host or 'none yet'})"


@app.command()
def diff(a: int, b: int, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """What tells one run from another: parameters, commit, and each step's inputs, outputs and time."""
    with history(project, env) as runs:
        found = runs.diff(a, b)
    if json:
        print_json(found)
        return
    print_table(
        ["what", f"run {a}", f"run {b}"],
        [(c.name, c.a, c.b) for c in (*found.params, *found.facts)],
        "parameters, code and outcome are the same",
    )
    print()
    print_table(
        ["step", f"run {a}", f"run {b}", "seconds", "seconds", "differs"],
        [
            (
                s.key,
                s.a.status if s.a else None,
                s.b.status if s.b else None,
                _seconds(s.a),
                _seconds(s.b),
                ", ".join(s.differs),
            )
            for s in found.steps
            if s.differs
        ],
        "the steps are the same",
    )


@app.command()
def rerun(
    id: Id,
    from_step: Annotated[
        str | None, typer.Option("--from", help="This step, and all that needs it, runs again even if unchanged.")
    ] = None,
    param: Params = None,
    why: Why = "",
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Run it again, here; what is done and unchanged is not done again, so a run that crashed goes on."""
    from headway.cli._run import carry_out, named_values

    with open_project(project, env) as opened:
        draft = opened.runs.draft_again(id, from_step, params=named_values(param or ()))
        opened.runs.tell_again(draft, why)
        carry_out(opened, draft, json)


@app.command()
def cancel(id: Id, why: Why = "", project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Ask a run to end; what it finished is kept."""
    with history(project, env) as runs:
        status = runs.cancel(id, why=why)
    if json:
        print_json({"run": id, "status": status})
    elif status == "running":
        print(f"run {id} is asked to end; it does within a second or two")
    else:
        print(f"run {id} is {status}")


@app.command(hidden=True)
def execute(id: Id, project: Dir = ".", env: Env = None) -> None:
    """Take a queued run and carry it out. `headway up` and `headway schedule` start this for every run."""
    from headway.cli._run import print_done
    from headway.errors import HeadwayError

    shown = sys.stdout
    try:
        with open_project(project, env) as opened:
            try:
                opened.runs.execute(id, lambda done: print_done(done, shown))
            except HeadwayError as error:
                if error.exit_code != 3:
                    raise
                _tell_mlflow(opened)
                raise
            _tell_mlflow(opened)
    except BaseException as error:
        with history(project, env) as runs:
            runs.fail_queued(id, str(error) if isinstance(error, HeadwayError) else f"{type(error).__name__}: {error}")
        raise


def _tell_mlflow(opened: Project) -> None:
    for warning in opened.models.project_to_mlflow():
        print(f"headway: warning: {warning}", file=sys.stderr)


def _seconds(step: StepRecord | None) -> float | None:
    return None if step is None or step.seconds is None else round(step.seconds, 3)


def _took(run: RunRecord) -> float | None:
    from headway.clock import WallClock
    from headway.orchestrate.runs.history import seconds

    took = seconds(run, WallClock().now() if run.status == "running" else None)
    return None if took is None else round(took, 1)


def _what(run: RunRecord) -> str:
    return f"{run.kind} {run.name}" if run.kind in ("monitor", "train") else run.name


def _who(run: RunRecord) -> str:
    return run.by if run.trigger == "manual" else f"{run.by} ({run.trigger})" if run.by else run.trigger


def _end(run: RunRecord, steps: Sequence[StepRecord]) -> int:
    """When the time line ends: with the run, or with the last thing known of it."""
    known: list[Any] = [run.ended_at, run.beat_at, run.started_at, *(s.ended_at for s in steps)]
    return max((at for at in known if at is not None), default=0)


def _scale(run: RunRecord, steps: Sequence[StepRecord]) -> str:
    took = 0.0 if run.started_at is None else (_end(run, steps) - run.started_at) / 1e6
    return f"0{f'{took:.1f} s':>{_BAR - 1}}"


def _bar(run: RunRecord, step: StepRecord, end: int) -> str:
    """When a step ran, between the beginning and the end of the run."""
    if step.started_at is None or run.started_at is None:
        return ""
    whole = max(end - run.started_at, 1)
    first = min(int((step.started_at - run.started_at) / whole * _BAR), _BAR - 1)
    last = int(((step.ended_at or end) - run.started_at) / whole * _BAR)
    return " " * max(first, 0) + "█" * max(min(last, _BAR) - first, 1)
