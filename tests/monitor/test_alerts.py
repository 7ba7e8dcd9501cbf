"""The channels, each with something real at the other end."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headway.monitor import Message, channels, deliver
from headway.settings import AlertSettings

MESSAGE = Message(
    title="critical: trip_duration, fare_amount has drifted",
    text="fare_amount: median 12.1 → 19.4 & <rising>",
    alerts=({"key": "trip_duration/drift/fare_amount", "severity": "critical"},),
)


@contextmanager
def web(*answers: int) -> Iterator[tuple[str, list[tuple[str, dict]]]]:
    """A web server that gives these answers, the last one for ever; and what it was sent."""
    got: list[tuple[str, dict]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, json.loads(body)))
            code = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def mail_server(refuse: str = "") -> Iterator[tuple[str, list[str]]]:
    """As much of SMTP as a mail takes; and the mails it was given."""
    got: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(text)
                    got.append("\n".join(lines))
                if refuse and line.upper().startswith(refuse):
                    self.wfile.write(b"550 not you\r\n")
                    continue
                self.wfile.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 fine\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"smtp://127.0.0.1:{server.server_address[1]}", got
        finally:
            server.shutdown()
            thread.join()


def send(settings: AlertSettings, **options: object) -> list:
    return deliver(channels(settings), MESSAGE, **{"waits": (0.0, 0.0), "timeout": 5.0, **options})  # type: ignore[arg-type]


def test_without_settings_nobody_is_told() -> None:
    assert channels(AlertSettings()) == []
    assert send(AlertSettings()) == []


def test_a_webhook_gets_json() -> None:
    with web(200) as (url, got):
        (done,) = send(AlertSettings(webhook=f"{url}/hook"))
    assert done.ok
    assert done.attempts == 1
    ((path, body),) = got
    assert path == "/hook"
    assert body == {"title": MESSAGE.title, "text": MESSAGE.text, "alerts": list(MESSAGE.alerts)}


def test_slack_gets_text_in_which_nothing_is_a_command() -> None:
    with web(200) as (url, got):
        (done,) = send(AlertSettings(slack=url))
    assert done.ok
    ((_, body),) = got
    assert set(body) == {"text"}
    assert "19.4 &amp; &lt;rising&gt;" in body["text"]
    assert MESSAGE.title in body["text"]


def test_an_attempt_is_made_again_where_that_may_help() -> None:
    with web(503, 429, 200) as (url, got):
        (done,) = send(AlertSettings(webhook=url))
    assert (done.ok, done.attempts, len(got)) == (True, 3, 3)


@pytest.mark.parametrize(("code", "attempts"), [(500, 3), (404, 1), (302, 1)])
def test_an_answer_that_is_no_success_is_reported(code: int, attempts: int) -> None:
    with web(code) as (url, got):
        (done,) = send(AlertSettings(webhook=url))
    assert (done.ok, done.attempts, len(got)) == (False, attempts, attempts)
    assert done.error == f"127.0.0.1 answered {code}"


def test_a_channel_that_fails_keeps_no_other_from_telling() -> None:
    with web(200) as (url, got):
        first, second = send(AlertSettings(webhook="http://127.0.0.1:9/secret-path", slack=url))
    assert (first.ok, second.ok) == (False, True)
    assert len(got) == 1
    assert "cannot be reached" in first.error
    assert "secret-path" not in first.error


def test_only_web_addresses_are_webhooks() -> None:
    (done,) = send(AlertSettings(webhook="file:///etc/passwd"))
    assert not done.ok
    assert done.attempts == 1


def test_a_mail_is_sent_to_every_address() -> None:
    with mail_server() as (url, got):
        (done,) = send(AlertSettings(email="a@example.com, b@example.com", smtp=f"{url}?from=watch@example.com"))
    assert done.ok, done.error
    (mail,) = got
    assert "Subject: critical: trip_duration, fare_amount has drifted" in mail
    assert "To: a@example.com, b@example.com" in mail
    assert "From: watch@example.com" in mail


@pytest.mark.parametrize("command", ["RCPT", "MAIL", "DATA"])
def test_a_mail_server_that_refuses_is_reported(command: str) -> None:
    with mail_server(command) as (url, _):
        (done,) = send(AlertSettings(email="a@example.com", smtp=url))
    assert not done.ok
    assert done.error


def test_a_password_does_not_go_to_a_server_without_encryption() -> None:
    with mail_server() as (url, got):
        there = url.replace("127.0.0.1", "user:hunter2@127.0.0.2")
        (done,) = send(AlertSettings(email="a@example.com", smtp=there))
    assert not done.ok
    assert not got
    assert "hunter2" not in done.error


def test_mail_without_a_server_says_which_setting_is_missing() -> None:
    (done,) = send(AlertSettings(email="a@example.com"))
    assert "alerts.smtp" in done.error


def test_a_command_gets_json_on_its_standard_input(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    (done,) = send(AlertSettings(command=f"{sys.executable} -c \"{code}\" '{tmp_path / 'got it.json'}'"))
    assert done.ok, done.error
    assert json.loads((tmp_path / "got it.json").read_text())["alerts"] == list(MESSAGE.alerts)


def test_a_command_is_not_a_shell(tmp_path: Path) -> None:
    send(AlertSettings(command=f"echo hi; touch {tmp_path / 'there'}"))
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{sys.executable} -c \"import sys; sys.exit('no pager')\"", "ended with 1: no pager"),
        ("no-such-command-anywhere", "cannot be started"),
        ("unclosed 'quote", "cannot be started"),
    ],
)
def test_a_command_that_fails_is_reported(command: str, told: str) -> None:
    (done,) = send(AlertSettings(command=command))
    assert not done.ok
    assert told in done.error


def test_a_command_that_hangs_is_stopped_with_its_children() -> None:
    begun = time.monotonic()
    (done,) = send(AlertSettings(command="sh -c 'sleep 60 & sleep 60'"), timeout=0.2)
    assert not done.ok
    assert time.monotonic() - begun < 10


def test_secrets_are_covered_in_what_is_said() -> None:
    command = f"{sys.executable} -c \"import sys; sys.exit('token abcdef is wrong')\""
    (done,) = send(AlertSettings(command=command), redact=lambda text: text.replace("abcdef", "***"))
    assert done.error == "it ended with 1: token *** is wrong"
