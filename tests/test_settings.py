from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import NotFoundError, SettingsError
from headway.settings import SETTINGS, VARIABLES, AlertSettings, ConsoleSettings, ServeSettings, Settings, load_settings

HEAD = '[project]\nname = "trips"\ndefinitions = "trips"\n'
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        (tmp_path / "headway.toml").write_text(HEAD + text)
        return tmp_path

    return write


def test_two_lines_are_enough(write: Write) -> None:
    root = write("")
    settings = load_settings(root)
    home = root / ".headway" / "local"
    assert (settings.project, settings.definitions, settings.env) == ("trips", "trips", "local")
    assert settings.home == home
    assert settings.metadata_url == f"sqlite:///{home}/metadata.db"
    assert settings.tracking_url == f"sqlite:///{home}/mlflow.db"
    assert settings.lake_uri == f"{home}/lake"
    assert settings.online_url == f"lmdb://{home}/online"
    assert settings.artifacts_dir == home / "artifacts"
    assert settings.locks_dir == home / "locks"
    assert not settings.allow_pickle
    assert not home.exists()
    assert {settings.origin(name) for name in SETTINGS if name not in ("name", "definitions")} == {"default"}


def test_every_field_has_a_sentence() -> None:
    public = {field.name for field in fields(Settings) if not field.name.startswith("_")}
    groups = {"serve": ServeSettings, "console": ConsoleSettings, "alerts": AlertSettings}
    named = public - {"root", "env", "project", *groups} | {"name"}
    assert set(SETTINGS) == named | {f"{name}.{f.name}" for name, group in groups.items() for f in fields(group)}
    assert all(doc.endswith(".") for doc in SETTINGS.values())


def test_an_environment_names_its_parts(write: Write) -> None:
    root = write('[env.prod]\nclock = "data"\nthreads = 4\nserve = { port = 9000 }\nlake = "s3://lake/headway"\n')
    settings = load_settings(root, "prod")
    assert (settings.clock, settings.threads, settings.lake_uri) == ("data", 4, "s3://lake/headway")
    assert settings.serve == ServeSettings(port=9000)
    assert settings.home == root / ".headway" / "prod"
    assert settings.origin("clock") == settings.origin("serve.port") == "headway.toml [env.prod]"
    assert settings.origin("online") == settings.origin("serve.host") == "default"
    assert load_settings(root).clock == "wall"


def test_the_file_is_found_from_below(write: Write) -> None:
    root = write("")
    (root / "a" / "b").mkdir(parents=True)
    assert load_settings(root / "a" / "b") == load_settings(root) == load_settings(root / "headway.toml")


def test_no_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"no headway.toml in {tmp_path} or any folder above.*definitions"):
        load_settings(tmp_path)


def test_variables_override_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write('[env.local]\nonline = "lmdb:///a"\n')
    for name, value in {"ONLINE": "lmdb:///b", "SERVE_PORT": "0", "ALLOW_PICKLE": "true", "THREADS": ""}.items():
        monkeypatch.setenv(f"HEADWAY_{name}", value)
    settings = load_settings(root)
    assert (settings.online, settings.serve.port, settings.allow_pickle) == ("lmdb:///b", 0, True)
    assert settings.threads is None
    assert settings.origin("online") == "HEADWAY_ONLINE environment variable"


def test_a_variable_chooses_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write("[env.prod]\n")
    monkeypatch.setenv("HEADWAY_ENV", "prod")
    assert load_settings(root).env == "prod"
    assert load_settings(root, "local").env == "local"


def test_a_misspelt_variable_is_not_silently_without_effect(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write("")
    monkeypatch.setenv("HEADWAY_SOMETHING_ELSE", "x")
    load_settings(root)
    monkeypatch.setenv("HEADWAY_ONLNE", "x")
    with pytest.raises(SettingsError, match="HEADWAY_ONLNE means nothing; did you mean HEADWAY_ONLINE"):
        load_settings(root)
    write('[env.prod]\nonline = "${HEADWAY_ONLNE}"\n')
    load_settings(root)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour = 1", r"\[project\]: no setting is called 'colour'"),
        ("[environment.prod]", "no table is called 'environment'; there are: env, project"),
        ('[env.prod]\nonlin = "x"', r"\[env.prod\]: no setting is called 'onlin'; did you mean 'online'"),
        ("[env.prod.serve]\nprot = 1", "no setting is called 'serve.prot'; did you mean 'serve.port'"),
        ('[env.prod.sources]\nt = { pat = "x" }', r"\[env.prod.sources.t\]: no setting is called 'pat'"),
        ('[env.prod.sources]\nt = "x"', "env.prod.sources.t is a table"),
        ("env = 3", "no setting is called 'env'"),
        ('[env."a/b"]', "letters, digits, _ and - only, got 'a/b'"),
        ("[env.local]\nonline = 3", r"headway.toml \[env.local\], online is text, got 3"),
        ('[env.local]\nonline = ""', "online is text, got ''"),
        ('[env.local]\nthreads = "many"', "threads is a whole number from 1 to"),
        ("[env.local]\nthreads = true", "threads is a whole number from 1 to"),
        ("[env.local]\nthreads = 0", "threads is a whole number from 1 to"),
        ("[env.local]\nserve.port = 70000", "serve.port is a whole number from 0 to 65535, got 70000"),
        ('[env.local]\nmaturity = "ripe"', "maturity is one of stable, beta, got 'ripe'"),
        ("[env.local.sources]\nt = { path = 3 }", "sources.t.path is text, got 3"),
        ("[env.local\nclock = 1", r"headway.toml is not valid TOML: .*line 4"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(write: Write, text: str, complaint: str) -> None:
    root = write(text)
    with pytest.raises(SettingsError, match=complaint) as caught:
        load_settings(root)
    assert str(root / "headway.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[project]\nname = "t"\n', r"has no 'definitions' in \[project\]: The Python package"),
        ("", r"has no 'name' in \[project\]"),
        ('project = "t"', "project is a table"),
        ('[project]\nname = "a/b"\ndefinitions = "t"', "name is a name of letters"),
        ('[project]\nname = "t"\ndefinitions = "src/t"', "definitions is the name of a Python package, got 'src/t'"),
        ('[project]\nname = "t"\ndefinitions = "t"\nallow_pickle = "yes"', "allow_pickle is true or false, got 'yes'"),
    ],
)
def test_the_project_section(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "headway.toml").write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        load_settings(tmp_path)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_bytes(b"[project]\nname = '\xff'")
    with pytest.raises(SettingsError, match="is not UTF-8 text, see byte 18"):
        load_settings(tmp_path)


def test_an_unknown_environment_names_the_known_ones(write: Write) -> None:
    root = write("[env.staging]\n")
    with pytest.raises(NotFoundError, match="has no environment 'stagin'; did you mean 'staging'"):
        load_settings(root, "stagin")
    with pytest.raises(NotFoundError, match="there are: local, staging"):
        load_settings(root, "x")


def test_a_time_may_stand_without_quotes(write: Write) -> None:
    assert load_settings(write("[env.local]\nclock = 2024-02-01T00:00:00Z\n")).clock == "2024-02-01T00:00:00+00:00"


def test_relative_places_are_the_project_s_and_source_paths_stay_as_given(write: Write) -> None:
    root = write(
        '[env.local]\nlake = "lake"\nmetadata = "sqlite:///m.db"\nonline = "lmdb://on"\ntracking = "sqlite:////abs/t.db"\n'
        '[env.local.sources]\nraw = { path = "data/*.parquet" }\n'
    )
    settings = load_settings(root)
    assert settings.lake_uri == f"{root}/lake"
    assert settings.metadata_url == f"sqlite:///{root}/m.db"
    assert settings.online_url == f"lmdb://{root}/on"
    assert settings.tracking_url == "sqlite:////abs/t.db"
    assert settings.sources == {"raw": {"path": "data/*.parquet"}}


def test_variables_in_values(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG", "user:hunter22@db")
    monkeypatch.setenv("PORT", "9000")
    root = write(
        '[env.prod]\nmetadata = "postgresql://${PG}/headway"\nserve.port = "${PORT}"\n'
        '[env.prod.sources]\nraw = { table = "a.b", connection = "postgresql://${PG}" }\n'
    )
    settings = load_settings(root, "prod")
    assert settings.metadata_url == "postgresql://user:hunter22@db/headway"
    assert settings.serve.port == 9000
    assert settings.sources["raw"] == {"table": "a.b", "connection": "postgresql://user:hunter22@db"}
    assert {name: value for name, value, _ in settings.describe()}["metadata"] == "postgresql://${PG}/headway"


@pytest.mark.parametrize("state", ["not set", "empty"])
def test_a_variable_without_a_value_is_named_with_its_key(
    write: Write, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.delenv("PG", raising=False)
    if state == "empty":
        monkeypatch.setenv("PG", "")
    root = write('[env.prod.sources]\nraw = { connection = "postgresql://${PG}" }\n')
    complaint = rf"\[env.prod\], sources.raw.connection needs the environment variable PG, which is {state}"
    with pytest.raises(SettingsError, match=complaint):
        load_settings(root, "prod")
    assert load_settings(root).env == "local"


@pytest.mark.parametrize("value", ["${PG", "${}", "${A B}"])
def test_what_is_no_variable_is_refused(write: Write, value: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a variable; write \$\{NAME\}"):
        load_settings(write(f'[env.local]\nonline = "redis://{value}"\n'))


SECRET = st.text("abcXYZ0189-_.~!", min_size=4, max_size=20).map(lambda text: f"s3cr{text}")


@given(SECRET, st.sampled_from(["", "user"]))
def test_no_text_form_shows_a_secret(secret: str, user: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TOKEN_OF_MINE", secret)
        monkeypatch.setenv("HEADWAY_METADATA", f"postgresql://{user}:{secret}@db/x")
        Path(folder, "headway.toml").write_text(
            f'{HEAD}[env.prod]\nonline = "redis://:{secret}@cache"\nlake = "s3://b?secret={secret}&region=x"\n'
            'tracking = "postgresql://me:${TOKEN_OF_MINE}@db"\n'
            f'[env.prod.sources]\na = {{ connection = "x://u:{secret}@h" }}\n'
            'b = { connection = "${TOKEN_OF_MINE}" }\n'
        )
        settings = load_settings(folder, "prod")
    shown = f"{settings!r} {settings} {settings.describe()} {settings.redact(f'could not log in with {secret}')}"
    assert secret not in shown
    assert "cache" in shown
    assert "region=x" in shown
    assert "postgresql://me:${TOKEN_OF_MINE}@db" in shown
    assert secret in settings.online_url


def test_settings_travel_to_worker_processes(write: Write) -> None:
    settings = load_settings(write('[env.local]\nclock = "data"\n'))
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.origin("clock") == "headway.toml [env.local]"


def test_nobody_s_setting_has_no_origin(write: Write) -> None:
    with pytest.raises(NotFoundError, match="no setting is called 'onlin'; did you mean 'online'"):
        load_settings(write("")).origin("onlin")


def test_variables_are_named_after_their_settings() -> None:
    assert VARIABLES["HEADWAY_SERVE_PORT"] == "serve.port"
    assert set(VARIABLES.values()) <= set(SETTINGS)


def test_a_token_is_never_shown(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR", "o-secret-1")
    root = write('[env.local.console]\noperator_token = "${OPERATOR}"\nreader_token = "r-secret-2"\n')
    settings = load_settings(root)
    assert settings.console.operator_token == "o-secret-1"
    shown = {name: value for name, value, _ in settings.describe()}
    assert shown["console.operator_token"] == "${OPERATOR}"
    assert shown["console.reader_token"] == "***"
    assert "secret" not in settings.redact("o-secret-1 and r-secret-2") + repr(settings) + repr(settings.console)
