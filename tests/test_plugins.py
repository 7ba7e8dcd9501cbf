from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from headway import plugins
from headway.errors import MissingExtra, NotFoundError, SettingsError, StoreError, UsageError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one module and its online stores where Python finds it, as pip would."""

    def install(distribution: str, code: str, *, metadata: str = "", **stores: str) -> None:
        place = tmp_path / distribution
        info = place / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n{metadata}")
        lines = [f"{name} = {target}" for name, target in stores.items()]
        info.joinpath("entry_points.txt").write_text("[headway.online_stores]\n" + "\n".join(lines))
        place.joinpath(f"{distribution}.py").write_text(code)
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.delitem(sys.modules, distribution, raising=False)

    return install


GOOD = (
    "from headway.plugins import maturity\n@maturity('stable')\ndef good(url): return url\ndef young(url): return url\n"
)


def test_a_backend_loads_by_kind_and_scheme(install: Install) -> None:
    install("acme", GOOD, acme="acme:good", young="acme:young")
    backend = plugins.load("online_stores", "acme", least="stable")
    assert backend.open("acme://x") == "acme://x"
    assert (backend.maturity, backend.provider) == ("stable", "acme 1.2")
    assert plugins.load("online_stores", "young").maturity == "beta"
    assert {"acme", "young"} <= set(plugins.schemes("online_stores"))


def test_a_stable_environment_refuses_what_is_only_beta(install: Install) -> None:
    install("acme", GOOD, young="acme:young")
    with pytest.raises(SettingsError, match=r"online store 'young' is beta.*stable ones only"):
        plugins.load("online_stores", "young", least="stable")


def test_an_unknown_scheme_names_the_known_ones(install: Install) -> None:
    install("acme", GOOD, acme="acme:good")
    with pytest.raises(
        NotFoundError, match=r"no installed package offers the online store 'acne'; did you mean 'acme'"
    ):
        plugins.load("online_stores", "acne")
    with pytest.raises(UsageError, match="no kind of backend; did you mean 'online_stores'"):
        plugins.load("online_store", "acme")


def test_a_missing_package_names_the_extra_that_brings_it(install: Install) -> None:
    code = "import a_package_nobody_has.client"
    install("acme", code, metadata="Provides-Extra: fast\n", fast="acme:open_store", plain="acme:open_store")
    with pytest.raises(MissingExtra, match=r"needs the package 'a_package_nobody_has'.*pip install 'acme\[fast\]'"):
        plugins.load("online_stores", "fast")
    with pytest.raises(MissingExtra, match=r"run: pip install a_package_nobody_has"):
        plugins.load("online_stores", "plain")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import acme.part", "ModuleNotFoundError"),
        ("", "AttributeError"),
        ("open_store = 3", "is not a function"),
    ],
)
def test_broken_code_is_reported_with_its_package(install: Install, code: str, complaint: str) -> None:
    install("acme", code, acme="acme:open_store")
    with pytest.raises(StoreError, match=f"online store 'acme' of acme 1.2 does not load: .*{complaint}"):
        plugins.load("online_stores", "acme")


def test_two_packages_for_one_scheme_are_refused(install: Install) -> None:
    install("acme", GOOD, acme="acme:good")
    install("bcme", GOOD, acme="bcme:good")
    with pytest.raises(SettingsError, match=r"acme 1\.2 and bcme 1\.2 both offer the online store 'acme'"):
        plugins.load("online_stores", "acme")


@pytest.mark.parametrize(
    ("setting", "scheme"),
    [
        ("redis://cache:6379/0", "redis"),
        ("postgresql+psycopg://db/headway", "postgresql"),
        ("S3://bucket/lake", "s3"),
        ("duckdb", "duckdb"),
        ("/var/lib/lake", "file"),
        ("../lake", "file"),
    ],
)
def test_schemes(setting: str, scheme: str) -> None:
    assert plugins.scheme(setting) == scheme


OURS = [(kind, entry.name) for kind in plugins.KINDS for entry in entry_points(group=f"headway.{kind}")]


@pytest.mark.parametrize(("kind", "scheme"), OURS)
def test_everything_installed_loads(kind: str, scheme: str) -> None:
    assert callable(plugins.load(kind, scheme).open)
