"""How an alert reaches somebody: a webhook, Slack, e-mail, a command.

A channel sends, or raises ``ChannelFailed``; ``deliver`` tries again where that may help and reports what became of
it. Nothing here goes to the network but to where the settings say.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from headway.errors import HeadwayError
from headway.settings import AlertSettings

TIMEOUT = 10.0  # seconds that one attempt may take
WAITS = (0.5, 2.0)  # seconds before the second attempt and the third
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is told: a line, some lines of text, and the alerts behind it as JSON data."""

    title: str
    text: str
    alerts: tuple[dict[str, Any], ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """What became of one message on one channel."""

    channel: str
    ok: bool
    attempts: int = 1
    error: str = ""


class ChannelFailed(HeadwayError):
    """One attempt that did not work; ``again`` says whether another one may."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class Channel(Protocol):
    """A way to tell somebody. Sending the same message twice must do no harm: an attempt whose answer was lost is
    made again."""

    @property
    def name(self) -> str:
        """What the channel is called in reports."""

    def send(self, message: Message, timeout: float) -> None:
        """Hand the message over within ``timeout`` seconds, or raise ``ChannelFailed``."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Sends the alerts as one JSON document: ``{"title": …, "text": …, "alerts": [{…}, …]}``."""

    url: str
    name: str = "webhook"

    def send(self, message: Message, timeout: float) -> None:
        _post(self.url, msgspec.json.encode(message), timeout)


@dataclass(frozen=True, slots=True)
class Slack:
    """Sends the text as a Slack-compatible webhook takes it: ``{"text": …}``."""

    url: str
    name: str = "slack"

    def send(self, message: Message, timeout: float) -> None:
        text = f"*{_slack(message.title)}*\n{_slack(message.text)}"
        _post(self.url, json.dumps({"text": text}).encode(), timeout)


@dataclass(frozen=True, slots=True)
class Email:
    """Sends a plain text mail through one server: ``smtp://`` (encrypted where the server can) or ``smtps://``."""

    server: str | None
    addresses: tuple[str, ...]
    name: str = "email"

    def send(self, message: Message, timeout: float) -> None:
        if self.server is None:
            raise ChannelFailed("alerts.email is set and alerts.smtp, the mail server, is not", again=False)
        url = urlsplit(self.server)
        if url.scheme not in ("smtp", "smtps") or not url.hostname:
            raise ChannelFailed("alerts.smtp reads smtp://user:password@host:port or smtps://…", again=False)
        try:
            with _smtp(url, timeout) as server:
                server.send_message(self._mail(url, message))
        except smtplib.SMTPResponseException as error:
            told = error.smtp_error
            words = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
            raise ChannelFailed(f"{url.hostname} said {error.smtp_code} {words}", again=error.smtp_code < 500) from None
        except smtplib.SMTPRecipientsRefused as error:
            refused = ", ".join(error.recipients)
            raise ChannelFailed(f"{url.hostname} takes no mail for {refused}", again=False) from None
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelFailed(f"{url.hostname} cannot be reached: {error}") from None

    def _mail(self, url: SplitResult, message: Message) -> EmailMessage:
        user = unquote(url.username or "")
        sender = parse_qs(url.query).get("from", [user if "@" in user else f"headway@{socket.gethostname()}"])[0]
        mail = EmailMessage()
        mail["Subject"] = " ".join(message.title.split())
        mail["From"] = sender
        mail["To"] = ", ".join(self.addresses)
        mail.set_content(f"{message.text}\n")
        return mail


@dataclass(frozen=True, slots=True)
class Command:
    """Runs a command, without a shell, with the JSON of a webhook on its standard input; it has to end with 0."""

    command: str
    name: str = "command"

    def send(self, message: Message, timeout: float) -> None:
        try:
            process = subprocess.Popen(
                shlex.split(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ChannelFailed(f"it cannot be started: {error}", again=False) from None
        try:
            _, said = process.communicate(msgspec.json.encode(message), timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it started itself holds the pipes too
            process.communicate()
            raise ChannelFailed(f"it did not end within {timeout:g} s and was stopped", again=False) from None
        if process.returncode:
            told = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise ChannelFailed(f"it ended with {process.returncode}{': ' + told if told else ''}")


def channels(settings: AlertSettings) -> list[Channel]:
    """The channels that the settings name."""
    found: list[Channel] = []
    if settings.webhook:
        found.append(Webhook(settings.webhook))
    if settings.slack:
        found.append(Slack(settings.slack))
    if settings.email:
        found.append(Email(settings.smtp, tuple(a.strip() for a in settings.email.split(",") if a.strip())))
    if settings.command:
        found.append(Command(settings.command))
    return found


def deliver(
    to: Sequence[Channel],
    message: Message,
    *,
    redact: Callable[[str], str] = str,
    timeout: float = TIMEOUT,
    waits: Sequence[float] = WAITS,
) -> list[Delivery]:
    """Send a message to every channel, at the same time; a channel that fails is reported and keeps none of the
    others waiting.

    ``redact`` covers secrets in what is said of a failure; ``waits`` are the seconds between attempts.
    """
    found: dict[int, Delivery] = {}

    def one(number: int, channel: Channel) -> None:
        found[number] = _attempts(channel, message, redact, timeout, waits)

    threads = [threading.Thread(target=one, args=each, daemon=True) for each in enumerate(to)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(to))]


def _attempts(
    channel: Channel, message: Message, redact: Callable[[str], str], timeout: float, waits: Sequence[float]
) -> Delivery:
    pause = threading.Event()
    error, attempt = "", 0
    for attempt, wait in enumerate((*waits, None), 1):
        try:
            channel.send(message, timeout)
        except ChannelFailed as failed:
            error = redact(str(failed))
            if not failed.again or wait is None:
                break
            pause.wait(wait)
        except Exception as failed:  # noqa: BLE001 - whatever a channel raises, the others and the caller go on
            return Delivery(channel.name, False, attempt, redact(f"{type(failed).__name__}: {failed}"))
        else:
            return Delivery(channel.name, True, attempt)
    return Delivery(channel.name, False, attempt, error)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET elsewhere: it is a failure to tell of."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: bytes, timeout: float) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ChannelFailed("the address is not one of http:// or https://", again=False)
    request = urllib.request.Request(url, data=body, method="POST", headers={"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code >= 500 or error.code in (408, 425, 429)
        raise ChannelFailed(f"{parts.hostname} answered {error.code}", again=again) from None
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ChannelFailed(f"{parts.hostname} cannot be reached: {reason}") from None


def _smtp(url: SplitResult, timeout: float) -> smtplib.SMTP:
    """A connection to the mail server, encrypted and signed in as far as the address says."""
    host = url.hostname or ""
    context = ssl.create_default_context()
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, url.port or 465, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(host, url.port or 25, timeout=timeout)
    try:
        server.ehlo()
        encrypted = url.scheme == "smtps"
        if not encrypted and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
            encrypted = True
        if url.username:
            if not encrypted and host not in _LOCAL:
                raise ChannelFailed(f"{host} offers no encryption, so it gets no password; use smtps://", again=False)
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
