"""A small project of steps on disk, and runs of its pipelines against real metadata."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.define._collect import collect
from headway.define.run_records import RunRecord, StepRecord
from headway.metadata import open_metadata
from headway.orchestrate.runs.recorder import Recorder, recording
from headway.orchestrate.steps import execute_pipeline, plan_pipeline
from headway.orchestrate.steps._trace import trace
from headway.settings import load_settings

PACKAGE = "stepsproj"


@dataclass
class Steps:
    """The project: ``write`` its modules, ``run`` and ``plan`` its pipelines, look at what was recorded."""

    root: Path
    targets: dict[str, Any] = field(default_factory=dict)  # what hw.run gives, by name
    recorder: Recorder | None = None

    def write(self, **modules: str) -> None:
        """Write modules of the package; the next run imports them anew."""
        package = self.root / PACKAGE
        package.mkdir(parents=True, exist_ok=True)
        if not (self.root / "headway.toml").exists():
            (self.root / "headway.toml").write_text(f'[project]\nname = "p"\ndefinitions = "{PACKAGE}"\n')
        (package / "__init__.py").touch()
        for name, text in modules.items():
            (package / f"{name}.py").write_text("import headway as hw\n" + textwrap.dedent(text))

    def edit(self, module: str, old: str, new: str) -> None:
        file = self.root / PACKAGE / f"{module}.py"
        text = file.read_text()
        assert text.count(old) == 1, text
        file.write_text(text.replace(old, new))

    def parts(self) -> Any:
        """Settings, declarations and metadata: all the engine needs of an environment."""
        forget()
        settings = load_settings(self.root)
        settings.home.mkdir(parents=True, exist_ok=True)
        metadata = open_metadata(settings.metadata_url, settings.project, settings.env)
        declarations = collect(PACKAGE, self.root)
        return SimpleNamespace(settings=settings, declarations=declarations, metadata=metadata)

    def run(self, pipeline: str = "main", *, from_step: str | None = None, **params: Any) -> dict[str, str]:
        """What became of each step."""
        parts = self.parts()
        run = RunRecord(kind="pipeline", targets=(pipeline,), params=params)
        try:
            with recording(parts, run) as self.recorder:
                declared = parts.declarations.pipelines[pipeline]
                return execute_pipeline(parts, declared, params, self.recorder, self.target, from_step=from_step)
        finally:
            parts.metadata.close()

    def lay_out(self, pipeline: str = "main", **params: Any) -> None:
        """Only what comes before a run."""
        forget()
        trace(collect(PACKAGE, self.root).pipelines[pipeline], params)

    def plan(self, pipeline: str = "main", **params: Any) -> dict[str, Any]:
        parts = self.parts()
        try:
            planned = plan_pipeline(parts, parts.declarations.pipelines[pipeline], params)
        finally:
            parts.metadata.close()
        return {each.key: each for each in planned}

    def target(self, name: str) -> Mapping[str, Any]:
        found = self.targets[name]
        if isinstance(found, Exception):
            raise found
        return found

    def records(self) -> dict[str, StepRecord]:
        """The steps of the last run, as metadata has them."""
        parts = self.parts()
        try:
            (run,) = parts.metadata.runs.list(limit=1)
            return {step.key: step for step in parts.metadata.runs.steps(run.id)}
        finally:
            parts.metadata.close()

    def value(self, key: str) -> Any:
        """What a step of the last run gave, if it is JSON."""
        import json

        output = self.records()[key].output
        assert output is not None
        return json.loads((load_settings(self.root).artifacts_dir / output.path).read_text())

    def log(self, key: str) -> str:
        assert self.recorder is not None
        return self.recorder.log_path(key).read_text()

    def calls(self) -> list[str]:
        """The lines that the project's steps have added to ``calls.txt``; they are taken away."""
        file = self.root / "calls.txt"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found


def forget() -> None:
    sys.dont_write_bytecode = True  # a file of the same size, changed within a second, would look as it was
    for name in [name for name in sys.modules.copy() if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield Steps(tmp_path)
    sys.path[:] = path
    forget()
