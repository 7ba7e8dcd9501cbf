"""Who is there, and whether what they send was meant.

Two tokens of the settings decide: ``console.reader_token`` may look, ``console.operator_token`` may act. Without an
operator token everybody who may look may act; without a reader token everybody may look. A browser trades a token for
a signed cookie; programs send ``Authorization: Bearer``.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from headway.settings import Settings

Role = Literal["operator", "reader"]

_DAYS = 30
_MICROSECONDS_PER_DAY = 86_400_000_000
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Who:
    """The person or program behind a request. ``role`` None: may not even look.

    ``session`` ties forms to a browser, and ``fresh`` says that the browser does not know it yet; ``bearer`` says that
    the token came in a header, which no foreign page can send.
    """

    name: str
    role: Role | None
    session: str = ""
    bearer: bool = False
    fresh: bool = False

    @property
    def may_act(self) -> bool:
        return self.role == "operator"


class Door:
    """Checks tokens, makes and reads session cookies, makes and checks the tokens of forms."""

    def __init__(self, settings: Settings) -> None:
        self._operator = settings.console.operator_token
        self._reader = settings.console.reader_token
        secret = _kept_secret(settings.home / "console.key")
        # A changed token ends the sessions that an older one began.
        tokens = json.dumps([self._operator, self._reader]).encode()
        self._key = blake2b(tokens, key=secret, digest_size=32).digest()
        place = f"{settings.root}\n{settings.env}".encode()
        self.cookie = f"headway-{blake2b(place, digest_size=4).hexdigest()}"  # cookies know hosts, not ports
        self._nobody = _user()

    @property
    def needs_login(self) -> bool:
        """Whether some token would allow more than none does."""
        return bool(self._operator or self._reader)

    def role(self, token: str | None) -> Role | None:
        """What a token allows; None for no token at all."""
        if token is not None and _same(token, self._operator):
            return "operator"
        if token is not None and _same(token, self._reader):
            return "reader" if self._operator else "operator"
        if self._reader:
            return None
        return "reader" if self._operator else "operator"

    def knows(self, token: str) -> bool:
        """Whether this is one of the tokens."""
        return _same(token, self._operator) | _same(token, self._reader)

    def who(self, authorization: str, cookie: str, now: int) -> Who:
        """The sender of a request with these headers' values."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            token = token.strip()
            if not self.knows(token):
                return Who("", None, bearer=True) if self.needs_login else Who(self._nobody, "operator", bearer=True)
            role = self.role(token)
            return Who(f"{role} token", role, bearer=True)
        session, name, role, until = self._read(cookie)
        if not session or until < now:
            return Who(
                self._nobody if not self.needs_login else "", self.role(None), secrets.token_urlsafe(18), fresh=True
            )
        return Who(name or self._nobody, role or self.role(None), session)

    def session(self, who: Who, now: int) -> str:
        """The value of the cookie for somebody without one: it remembers nothing but the browser."""
        return self._write([who.session, "", None, now + _DAYS * _MICROSECONDS_PER_DAY])

    def log_in(self, token: str, name: str, now: int) -> tuple[Who, str] | None:
        """Who a token makes somebody, and their cookie; None for a token nobody knows."""
        if not self.knows(token):
            return None
        role = self.role(token)
        name = " ".join(name.split())[:_LONGEST_NAME] or f"{role}"
        who = Who(name, role, secrets.token_urlsafe(18))
        return who, self._write([who.session, name, role, now + _DAYS * _MICROSECONDS_PER_DAY])

    def form_token(self, who: Who) -> str:
        """A token for the forms of a page. It looks different on every page, so that compression tells nothing."""
        salt = secrets.token_urlsafe(9)
        return f"{salt}.{self._sign(f'form {salt} {who.session}')}"

    def form_is_ours(self, who: Who, token: str) -> bool:
        """Whether a form with this token came from a page made for this session."""
        salt, _, signature = token.partition(".")
        return bool(who.session) and hmac.compare_digest(
            signature.encode(), self._sign(f"form {salt} {who.session}").encode()
        )

    def seal(self, value: object) -> str:
        """JSON data as text that only this console can have written."""
        return self._write(value)

    def unseal(self, text: str) -> object:
        """What ``seal`` made into ``text``; None if somebody else made it."""
        body, _, signature = text.rpartition(".")
        if not body or not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            return None
        with contextlib.suppress(ValueError):
            return json.loads(base64.urlsafe_b64decode(body))
        return None

    def _write(self, value: object) -> str:
        body = base64.urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode()).decode()
        return f"{body}.{self._sign(body)}"

    def _read(self, cookie: str) -> tuple[str, str, Role | None, int]:
        match self.unseal(cookie):
            case [str(session), str(name), None | "operator" | "reader" as role, int(until)]:
                return session, name, role, until
            case _:
                return "", "", None, 0

    def _sign(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:24]).decode()


def _same(given: str, expected: str | None) -> bool:
    return expected is not None and hmac.compare_digest(given.encode(), expected.encode())


def _kept_secret(path: Path) -> bytes:
    """Random bytes that outlive the process, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if len(found) == 32:
            return found
    secret = secrets.token_bytes(32)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, secret)
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)
    return secret


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
