"""Who may look and who may act: host names, tokens, forms that are not ours, and what browsers are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.console.browser import Browser, Page
from tests.console.shop import Opened, opened
from tests.project import Shop, copy, finished

from headway.console import create_app
from headway.console._context import local_path
from headway.settings import load_settings

READER, OPERATOR = "look-but-do-not-touch", "may-do-as-it-likes"
ROLLBACK = "/models/delivery/rollback"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.console._guard._WRONG_TOKEN_SECONDS", 0.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return copy(finished(tmp_path_factory), tmp_path_factory.mktemp("access") / "shop")


@pytest.fixture(scope="module")
def alone(shop: Shop) -> Iterator[Opened]:
    """A laptop: no tokens."""
    yield from opened(shop)


def with_tokens(shop: Shop, tmp_path: Path, **tokens: str) -> Browser:
    root = copy(shop, tmp_path / "shop").root
    with (root / "headway.toml").open("a") as file:
        file.writelines(f'console.{name} = "{token}"\n' for name, token in tokens.items())
    return Browser(create_app(load_settings(root)))


@pytest.fixture
def guarded(shop: Shop, tmp_path: Path) -> Browser:
    return with_tokens(shop, tmp_path, reader_token=READER, operator_token=OPERATOR)


def send(browser: Browser, method: str, path: str, **more: object) -> httpx.Response:
    return asyncio.run(browser._send(method, path, **more))


def log_in(browser: Browser, token: str, name: str = "") -> Page:
    return browser.post("/login", token=token, name=name, to="/models")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_foreign_host_names_are_refused(alone: Opened, host: str) -> None:
    page = alone.browser.get("/", host=host)
    assert page.status == 403
    assert "serve.hosts" in page.text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_this_machine_may_be_called_by_its_names(alone: Opened, host: str) -> None:
    assert alone.browser.get("/", host=host).status == 200


def test_browsers_are_told_to_be_careful(alone: Opened) -> None:
    page = alone.browser.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    assert " style=" not in page.html
    assert " onclick=" not in page.html
    asset = next(link for link in page.links if link.endswith("console.css"))
    assert alone.browser.get(asset).headers["x-content-type-options"] == "nosniff"


def test_the_cookie_is_for_this_console_only(shop: Shop) -> None:
    answer = send(Browser(create_app(load_settings(shop.root))), "GET", "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert cookie.startswith("headway-")


FORM = {"why": "because"}


@pytest.mark.parametrize("token", [None, "", "x", "a.b", "AAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_a_form_without_our_token_does_nothing(alone: Opened, token: str | None) -> None:
    alone.browser.get("/")
    answer = send(alone.browser, "POST", ROLLBACK, data=FORM | ({} if token is None else {"form_token": token}))
    assert answer.status_code == 403
    assert "nothing was done" in answer.text


def test_a_token_of_another_browser_does_nothing(alone: Opened) -> None:
    other = Browser(alone.browser._app)
    other.get("/")
    token = alone.browser.get("/models/delivery/promote").form_token
    assert send(other, "POST", ROLLBACK, data=FORM | {"form_token": token}).status_code == 403


def test_tokens_of_forms_differ_from_page_to_page(alone: Opened) -> None:
    path = "/models/delivery/promote"
    assert alone.browser.get(path).form_token != alone.browser.get(path).form_token


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"referer": "http://evil.example/page"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_form_from_elsewhere_does_nothing(alone: Opened, headers: dict[str, str]) -> None:
    token = alone.browser.get("/models/delivery/promote").form_token
    answer = send(alone.browser, "POST", ROLLBACK, data=FORM | {"form_token": token}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text


def test_a_form_from_here_is_acted_on(alone: Opened) -> None:
    token = alone.browser.get("/models/delivery/promote").form_token
    headers = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    answer = send(alone.browser, "POST", ROLLBACK, data=FORM | {"form_token": token}, headers=headers)
    assert answer.status_code == 409  # nothing to go back to: it got that far


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{}", "application/json", "x-www-form-urlencoded"),
        (b"why=" + b"x" * (1 << 20), "application/x-www-form-urlencoded", "larger than"),
        (b"&".join(b"a=1" for _ in range(3000)), "application/x-www-form-urlencoded", "too many fields"),
        (b"why=\xff\xfe", "application/x-www-form-urlencoded", "cannot be read"),
    ],
)
def test_bodies_that_are_no_form(alone: Opened, body: bytes, kind: str, said: str) -> None:
    answer = send(alone.browser, "POST", ROLLBACK, content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert said in answer.text


def test_without_a_token_one_is_asked_to_log_in(guarded: Browser) -> None:
    page = guarded.get("/models/delivery?q=1", accept="text/html")
    assert page.status == 303
    assert page.headers["location"] == "/login?to=%2Fmodels%2Fdelivery%3Fq%3D1"
    assert guarded.get("/", accept="*/*").status == 401
    assert guarded.get("/", authorization="Bearer wrong", accept="text/html").status == 401
    assert "delivery" not in guarded.get("/login").text


def test_a_reader_looks_and_does_not_act(guarded: Browser) -> None:
    assert log_in(guarded, READER, "ada").headers["location"] == "/models"
    page = guarded.get("/models/delivery").check()
    assert page.status == 200
    assert "ada (reader)" in page.text
    assert "Roll back" not in page.text
    assert not [link for link in page.links if link.endswith(("/promote", "/rollback"))]
    assert "<form" not in guarded.get("/models/delivery/promote").html.partition("<main")[2]
    token = guarded.get("/").form_token  # of the log out button
    answer = send(guarded, "POST", ROLLBACK, data=FORM | {"form_token": token})
    assert answer.status_code == 403
    assert "You may look, but not act" in answer.text


def test_an_operator_acts_under_a_name(guarded: Browser) -> None:
    log_in(guarded, OPERATOR, "  grace   <hopper> ")
    page = guarded.get("/models/delivery/promote").check()
    assert "grace <hopper>" in page.text
    assert "Why" in page.text
    assert guarded.post("/logout", on="/").headers["location"] == "/"
    assert guarded.get("/", accept="text/html").status == 303


def test_a_wrong_token_is_one_sentence(guarded: Browser) -> None:
    page = log_in(guarded, "guess")
    assert page.status == 403
    assert "neither the operator token nor the reader token" in page.text


def test_programs_send_a_token(guarded: Browser) -> None:
    reader, operator = ({"authorization": f"Bearer {token}"} for token in (READER, OPERATOR))
    answer = send(guarded, "GET", "/", headers=reader)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert send(guarded, "POST", ROLLBACK, data=FORM, headers=reader).status_code == 403
    assert send(guarded, "POST", ROLLBACK, data=FORM, headers=operator).status_code == 409
    evil = operator | {"origin": "http://evil.example"}
    assert send(guarded, "POST", ROLLBACK, data=FORM, headers=evil).status_code == 403


def test_without_a_reader_token_everybody_may_look(shop: Shop, tmp_path: Path) -> None:
    browser = with_tokens(shop, tmp_path, operator_token=OPERATOR)
    page = browser.get("/models/delivery")
    assert page.status == 200
    assert "Log in" in page.text
    assert "Roll back" not in page.text
    assert browser.get("/models/delivery/promote").status == 200
    log_in(browser, OPERATOR)
    assert "Promote" in browser.get("/models/delivery").text


def test_without_an_operator_token_whoever_may_look_may_act(shop: Shop, tmp_path: Path) -> None:
    browser = with_tokens(shop, tmp_path, reader_token=READER)
    assert browser.get("/", accept="text/html").status == 303
    log_in(browser, READER)
    assert "Promote" in browser.get("/models/delivery").text


def test_a_changed_token_ends_sessions(shop: Shop, tmp_path: Path) -> None:
    browser = with_tokens(shop, tmp_path, reader_token=READER, operator_token=OPERATOR)
    log_in(browser, OPERATOR)
    root = tmp_path / "shop"
    browser._app = create_app(load_settings(root))  # a restart
    assert browser.get("/", accept="text/html").status == 200
    file = root / "headway.toml"
    file.write_text(file.read_text().replace(OPERATOR, "another"))
    browser._app = create_app(load_settings(root))
    assert browser.get("/", accept="text/html").status == 303


def test_a_forged_cookie_is_nobody(guarded: Browser) -> None:
    log_in(guarded, READER)
    (cookie,) = list(guarded._cookies.jar)
    for forged in ("", "x", "x.y", cookie.value[:-3], "WyJhIiwgImIiLCAib3BlcmF0b3IiLCA5OTk5OTk5OTk5OTk5OTk5OV0=.AAAA"):
        guarded._cookies.clear()
        guarded._cookies.set(cookie.name, forged, domain="127.0.0.1")
        assert guarded.get("/", accept="text/html").status == 303


def test_the_secret_is_readable_by_its_owner_only(shop: Shop, tmp_path: Path) -> None:
    with_tokens(shop, tmp_path)
    assert (tmp_path / "shop/.headway/local/console.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("to", "where"),
    [
        ("/models?q=1", "/models?q=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("models", "/"),
        ("/a\r\nset-cookie: x", "/a%0D%0Aset-cookie:%20x"),
        ("/mod\u00e8le", "/mod%C3%A8le"),
    ],
)
def test_one_is_sent_to_pages_of_this_console_only(to: str, where: str) -> None:
    assert local_path(to) == where


def test_a_failure_is_a_page_and_no_traceback(alone: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("headway.console.pages.search.find", broken)
    page = alone.browser.get("/search?q=x").check()
    assert page.status == 500
    assert "its log says where" in page.text
    assert "ZeroDivisionError" not in page.html
    assert "secret detail" not in page.html
    assert "content-security-policy" in page.headers
