"""The entry point: verbs, and errors turned into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import typing
from functools import lru_cache

import typer

from headway.cli import (
    _check,
    _doctor,
    _features,
    _ingest,
    _labels,
    _models,
    _monitor,
    _predict,
    _predictions,
    _run,
    _runs,
    _schedule,
    _serve,
    _up,
)
from headway.cli._show import fail
from headway.errors import HeadwayError

app = typer.Typer(
    name="headway",
    help="From raw data to models in production: declare, run, look.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(_doctor.doctor)
app.command("plan", context_settings=_run.UNKNOWN_OPTIONS)(_run.plan)
app.command("run", context_settings=_run.UNKNOWN_OPTIONS)(_run.run)
app.command("ingest")(_ingest.ingest)
app.command("check")(_check.check)
app.add_typer(_runs.app, name="runs")
app.command("schedule")(_schedule.schedule)
app.add_typer(_schedule.app, name="schedules")
app.add_typer(_features.app, name="features")
app.command("train")(_models.train)
app.add_typer(_models.app, name="models")
app.command("rollback")(_models.rollback)
app.command("predict")(_predict.predict)
app.command("serve")(_serve.serve)
app.add_typer(_predictions.app, name="predictions")
app.add_typer(_labels.app, name="labels")
app.command("up")(_up.up)
app.command("monitor")(_monitor.monitor)
app.command("status")(_monitor.status)
app.add_typer(_monitor.app, name="alerts")


@lru_cache(maxsize=1)
def _command() -> typing.Callable[..., typing.Any]:
    """All commands with their options, read from the functions' signatures once."""
    return typer.main.get_command(app)


def main() -> typing.NoReturn:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate or a check said no."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see headway.train: a project may import an estimator first
    try:
        _command()(standalone_mode=True)
    except HeadwayError as error:
        fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        fail("stopped; what was finished is kept, and running it again goes on from there", 130)
    except MemoryError:
        fail("out of memory; set memory_limit in headway.toml, or give it fewer rows at once", 1)
    except OSError as error:
        fail(f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}", 1)
    sys.exit(0)
