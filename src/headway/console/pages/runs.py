"""Runs: what ran and runs, each with its graph, timings and log; and the form that starts one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from headway.console import _logs
from headway.console._context import Context
from headway.console.views import params as asked
from headway.console.views import runs as shown
from headway.define import Pipeline
from headway.define._parameters import Parameter, parameters
from headway.define.run_records import ENDED, RunRecord, RunStatus, StepRecord
from headway.orchestrate.runs._alive import crashed

PAGE = 50
STEPS = 200  # rows of the table of steps; filters reach the others
_TABS: tuple[RunStatus, ...] = get_args(RunStatus)


def routes(view: Context) -> list[Route]:
    """The list, the page of a run with its parts, and what can be done to runs."""
    return [
        Route("/runs", lambda request: _list(view, request)),
        Route("/runs", lambda request: _start(view, request), methods=["POST"]),
        Route("/runs/new", lambda request: _new(view, request)),
        Route("/runs/new/plan", lambda request: _plan(view, request)),
        Route("/runs/new/command", lambda request: _command(view, request)),
        Route("/runs/{id:int}", lambda request: _one(view, request, "run.html")),
        Route("/runs/{id:int}/live", lambda request: _one(view, request, "run_live.html")),
        Route("/runs/{id:int}/log", lambda request: _whole_log(view, request)),
        Route("/runs/{id:int}/tail", lambda request: _tail(view, request)),
        Route("/runs/{id:int}/cancel", lambda request: _cancel(view, request), methods=["POST"]),
        Route("/runs/{id:int}/rerun", lambda request: _rerun(view, request), methods=["POST"]),
    ]


# The list ------------------------------------------------------------------------------------------------------------


def _list(view: Context, request: Request) -> Response:
    query = request.query_params
    status = query.get("status", "")
    name = query.get("name", "").strip()
    before = _number(query.get("before"))
    crashed(view.metadata, view.settings.home, view.now())
    wanted: tuple[RunStatus, ...] = (status,) if status in _TABS else ()
    runs = view.metadata.runs.list(status=wanted, name=name or None, before=before, limit=PAGE + 1)
    counts = view.metadata.runs.counts()
    kept = {"status": status, "name": name}
    return view.page(
        request,
        "runs.html",
        title="Runs",
        cli=_list_command(status, name),
        rows=shown.rows(runs[:PAGE], view.now()),
        counts={each: counts[each] for each in _TABS if counts.get(each)},
        total=sum(counts.values()),
        chosen=status,
        name=name,
        names=_targets(view),
        url=lambda **changes: _url("/runs", {**kept, **changes}),
        older=_url("/runs", {**kept, "before": runs[PAGE - 1].id}) if len(runs) > PAGE else "",
        newest=_url("/runs", kept) if before else "",
        live=any(run.status not in ENDED for run in runs[:PAGE]) and not before,
        scheduling=view.scheduling() if view.scheduling else "",
    )


def _list_command(status: str, name: str) -> str:
    words = ["headway runs list", f"--status {status}" if status else "", f"--name {name}" if name else ""]
    return " ".join(word for word in words if word)


def _url(path: str, values: Mapping[str, object]) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 18 else None


# One run -------------------------------------------------------------------------------------------------------------


def _run(view: Context, request: Request) -> RunRecord:
    id = request.path_params["id"]
    run = view.metadata.runs.get(id)
    if run is None:
        view.not_found(f"There is no run {id} in this environment.")
    return run


def _one(view: Context, request: Request, template: str) -> Response:
    run = _run(view, request)
    if run.status == "running" and view.now() - (run.beat_at or run.started_at or 0) > 3_000_000:
        crashed(view.metadata, view.settings.home, view.now())
        run = _run(view, request)
    steps = view.metadata.runs.steps(run.id)
    values = _values(view, request, run, steps)
    if template != "run.html":
        return view.fragment(request, template, **values)
    commands = [
        f"headway runs show {run.id}",
        f"headway runs logs {run.id} --follow" if run.status not in ENDED else f"headway runs logs {run.id}",
    ]
    return view.page(request, template, title=f"Run {run.id}", cli=commands, **values)


def _values(view: Context, request: Request, run: RunRecord, steps: Sequence[StepRecord]) -> dict[str, Any]:
    query = request.query_params
    groups = shown.fold(steps)
    status, of = query.get("status", ""), query.get("of", "")
    rows, found = shown.table(steps, groups, of=of, status=status, limit=STEPS)
    step = _logs.chosen(steps, query.get("step"))
    live = run.status not in ENDED
    kept = {"step": query.get("step", ""), "of": of, "status": status}
    return {
        "run": run,
        "live": live,
        "seconds": shown.seconds(run, view.now()),
        "graph": shown.run_graph(groups, run.id),
        "gantt": shown.run_gantt(groups, run.id, view.now()),
        "steps": rows,
        "found": found,
        "total": len(steps),
        "counts": Counter(s.status for s in steps),
        "tally": shown.in_words(Counter(s.status for s in steps)),
        "chosen": status,
        "of": of,
        "url": lambda **changes: _url(f"/runs/{run.id}", {**kept, **changes}),
        "live_url": _url(f"/runs/{run.id}/live", kept),
        "command": view.command(_command_of(view, run)),
        "edit_url": _edit_url(run),
        "children": [] if live else _children(view, run),
        **_step_values(view, run, steps, step, followed=query.get("step") is None and live),
    }


def _step_values(
    view: Context, run: RunRecord, steps: Sequence[StepRecord], step: StepRecord | None, followed: bool
) -> dict[str, Any]:
    """The step in the foreground: its log, where its inputs came from, and how long it took before."""
    if step is None:
        own = _logs.piece(view.settings, run.id, "", -1)
        return {"step": None, "log": own if own.size else None, "tail": None, "inputs": [], "history": None}
    made_by = {s.output.digest: s.key for s in steps if s.output is not None}
    log = _logs.piece(view.settings, run.id, step.key, -1)
    reads_on = run.status not in ENDED and (step.status == "running" or followed)
    lengths = [s.seconds for s in reversed(view.metadata.runs.history(step.step, 30)) if s.status == "done"]
    return {
        "step": step,
        "log": log,
        "tail": _tail_url(run.id, step.key, log.end, followed) if reads_on else None,
        "inputs": [(name, digest, made_by.get(digest)) for name, digest in step.inputs.items()],
        "history": shown.history(step.step, lengths),
    }


def _command_of(view: Context, run: RunRecord) -> str:
    """The command line of a run, without the parameters that are as the pipeline has them anyway."""
    if run.kind in ("monitor", "train"):
        return shown.command(run)
    return _said_command(run.targets, run.params, _asked(view, run.targets))


def _edit_url(run: RunRecord) -> str:
    if run.kind in ("monitor", "train"):
        return ""
    values = [("target", target) for target in run.targets] + [("from", str(run.id))]
    return f"/runs/new?{urlencode(values)}"


def _children(view: Context, run: RunRecord) -> list[RunRecord]:
    """The newest runs that repeat this one, of those that are near."""
    newest = view.metadata.runs.list(name=run.targets[0] if run.targets else None, limit=100)
    return [other for other in newest if other.parent == run.id][:5]


# Logs ----------------------------------------------------------------------------------------------------------------


def _tail_url(run: int, step: str, offset: int, followed: bool) -> str:
    return f"/runs/{run}/tail?step={quote(step, safe='')}&offset={offset}" + ("&follow=1" if followed else "")


def _tail(view: Context, request: Request) -> Response:
    """What was printed since, and where to ask on: nowhere once the step, or with ``follow`` the run, is over."""
    run = _run(view, request)
    key, follow = request.query_params.get("step", ""), "follow" in request.query_params
    log = _logs.piece(view.settings, run.id, key, _number(request.query_params.get("offset")) or 0)
    steps = view.metadata.runs.steps(run.id)
    step = next((s for s in steps if s.key == key), None)
    more = log.end < log.size and bool(log.text)
    following = _logs.next_step(steps, key, run) if follow and not more else None
    on: str | None = None
    if following is not None:
        on = _tail_url(run.id, following.key, 0, True)
    elif log.end < log.size or (
        run.status not in ENDED and (follow or (step is not None and step.status == "running"))
    ):
        on = _tail_url(run.id, key, log.end, follow)
    heading = following.key if following else ""
    return view.fragment(request, "run_tail.html", log=log, tail=on, more=more or heading, heading=heading)


def _goes_on(run: RunRecord, step: StepRecord | None, follow: bool) -> bool:
    return run.status not in ENDED and (follow or (step is not None and step.status == "running"))


def _whole_log(view: Context, request: Request) -> Response:
    """The log of a step as it is, as plain text."""
    run = _run(view, request)
    key = request.query_params.get("step", "")
    file = _logs.path(view.settings, run.id, key)
    if key and not any(step.key == key for step in view.metadata.runs.steps(run.id)):
        view.not_found(f"Run {run.id} has no step {key!r}.")
    if not file.exists():
        where = f" on {run.host}" if run.host else ""
        what = f"Step {key} of run {run.id}" if key else f"The process of run {run.id}"
        return PlainTextResponse(f"{what} has printed nothing, or its log is kept{where}.\n")
    return FileResponse(file, media_type="text/plain; charset=utf-8", headers={"cache-control": "no-store"})


# What can be done ----------------------------------------------------------------------------------------------------


def _cancel(view: Context, request: Request) -> Response:
    run = _run(view, request)
    status = view.project.runs.cancel(run.id, view.who(request).name)
    said = f"Run {run.id} is cancelled." if status == "cancelled" else f"Run {run.id} was asked to end."
    if status in ENDED and status != "cancelled":
        said = f"Run {run.id} had ended already: it is {status}."
    return view.redirect(request, f"/runs/{run.id}", said)


def _rerun(view: Context, request: Request) -> Response:
    run = _run(view, request)
    from_step = view.form(request).get("from_step") or None
    made = view.project.runs.rerun(run.id, from_step, by=view.who(request).name)
    after = f" from {from_step} on" if from_step else ""
    return view.redirect(request, f"/runs/{made.id}", f"Run {made.id} repeats run {run.id}{after}.")


# The form ------------------------------------------------------------------------------------------------------------


def _targets(view: Context) -> list[str]:
    d = view.declarations
    return [*d.pipelines, *d.models, *d.batches, *d.views, *d.sources]


def _groups(view: Context) -> list[tuple[str, list[Any]]]:
    d = view.declarations
    groups = (
        ("Pipelines", d.pipelines),
        ("Models", d.models),
        ("Batch predictions", d.batches),
        ("Feature views", d.views),
        ("Sources", d.sources),
    )
    return [(label, list(found.values())) for label, found in groups if found]


def _asked(view: Context, targets: Sequence[str]) -> tuple[Parameter, ...]:
    """The parameters of what is to be run; only pipelines have any."""
    pipeline = _pipeline(view, targets)
    return () if pipeline is None else parameters(pipeline)


def _pipeline(view: Context, targets: Sequence[str]) -> Pipeline | None:
    return view.declarations.pipelines.get(targets[0]) if len(targets) == 1 else None


def _new(view: Context, request: Request) -> Response:
    query = request.query_params
    before = view.metadata.runs.get(_number(query.get("from")) or 0)
    if "target" not in query and before is None:
        return view.page(request, "run_choose.html", title="Start a run", cli="headway run", groups=_groups(view))
    given: dict[str, Any] = dict(before.params) if before is not None else {}
    given |= {name.removeprefix(asked.PREFIX): query[name] for name in query if name.startswith(asked.PREFIX)}
    return _form(view, request, _chosen(view, query.getlist("target")), given, {})


def _chosen(view: Context, targets: Sequence[str]) -> list[str]:
    """The targets that were sent, each of which the project has; none stands for everything."""
    wanted = [target.strip() for target in targets if target.strip()]
    for target in wanted:
        if target not in _targets(view):
            view.not_found(f"The project has nothing called {target!r} that could be run.")
    return wanted


def _form(
    view: Context, request: Request, targets: Sequence[str], given: Mapping[str, Any], problems: Mapping[str, str]
) -> Response:
    wanted = _asked(view, targets)
    return view.page(
        request,
        "run_new.html",
        title=f"Start {', '.join(targets) or 'everything'}",
        status=422 if problems else 200,
        targets=targets,
        fields=asked.fields(wanted, given, problems),
        problem=problems.get("", ""),
        command=view.command(_said_command(targets, given, wanted)),
        about=_about(view, targets),
        plan_url=f"/runs/new/plan?{_query(targets)}" if _pipeline(view, targets) is None else "",
    )


def _query(targets: Sequence[str]) -> str:
    return urlencode([("target", target) for target in targets] or [("target", "")])


def _about(view: Context, targets: Sequence[str]) -> str:
    if not targets:
        return "Checks the data, computes features, trains, judges and materializes whatever is not up to date."
    d = view.declarations
    for found in (d.pipelines, d.models, d.batches, d.views, d.sources):
        if len(targets) == 1 and targets[0] in found:
            told = (found[targets[0]].description or "").split("\n\n")[0]
            return told or f"The {found[targets[0]].kind} {targets[0]}, with all that it needs."
    return "These, with all that they need."


def _plan(view: Context, request: Request) -> Response:
    """What a run would do now. It looks at every file and digest, so it is a page of its own."""
    targets = _chosen(view, request.query_params.getlist("target"))
    title = f"What a run of {', '.join(targets) or 'everything'} would do now"
    items = view.project.plan(*targets)
    return view.page(
        request, "run_plan.html", title=title, cli=" ".join(["headway plan", *targets]), items=items, targets=targets,
        form_url=f"/runs/new?{_query(targets)}",
    )  # fmt: skip


def _said_command(targets: Sequence[str], given: Mapping[str, Any], wanted: Sequence[Parameter]) -> str:
    """The command line of a form as it stands; what is as it would be anyway is left out."""
    usual = {field.parameter.name: field.value for field in asked.fields(wanted, {})}
    now = {field.parameter.name: field.value for field in asked.fields(wanted, given)}
    told = {name: value for name, value in given.items() if name not in now or now[name] != usual[name]}
    return shown.start_command("project", targets, told)


def _command(view: Context, request: Request) -> Response:
    """The command line of the form as it is being filled in."""
    targets = _chosen(view, request.query_params.getlist("target"))
    wanted = _asked(view, targets)
    form = {name: request.query_params.getlist(name) for name in request.query_params}
    command = _said_command(targets, asked.sent(wanted, form), wanted)
    return view.fragment(request, "run_command.html", command=view.command(command))


def _start(view: Context, request: Request) -> Response:
    form = view.form(request)
    targets = _chosen(view, form.all("target"))
    wanted, pipeline = _asked(view, targets), _pipeline(view, targets)
    given = asked.sent(wanted, form.fields)
    values: dict[str, Any] = {}
    if pipeline is not None:
        values, problems = asked.read(pipeline, wanted, given)
        if problems:
            return _form(view, request, targets, given, problems)
        values = {name: value for name, value in values.items() if name in given}
    run = view.project.runs.start(targets, values, trigger="console", by=view.who(request).name)
    return view.redirect(request, f"/runs/{run.id}", f"Run {run.id} of {run.name} is queued.")
