"""What a request is answered with when it cannot be answered: RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headway.errors import DataError

TITLES: Mapping[int, tuple[str, str]] = {
    400: ("malformed", "The request cannot be read"),
    403: ("host-not-allowed", "This host name is not allowed"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "This method is not allowed here"),
    409: ("no-champion", "No version is live"),
    413: ("too-large", "The request is too large"),
    415: ("unsupported-media-type", "This content type is not taken here"),
    422: ("invalid-input", "The input does not fit the model"),
    500: ("failed", "The request could not be answered"),
    503: ("not-ready", "Not ready"),
}
MEDIA_TYPE = b"application/problem+json"


class Refused(DataError):
    """A request that is answered with a problem. The message says what was wrong without repeating any value."""

    def __init__(self, status: int, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


class Problem(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def problem(status: int, detail: str, request_id: str) -> bytes:
    """The JSON body of a problem."""
    slug, title = TITLES[status]
    return msgspec.json.encode(Problem(f"urn:headway:problem:{slug}", title, status, detail, request_id))


def shown(name: str) -> str:
    """A name out of a request, quoted and cut to a length that fits a sentence."""
    return repr(name if len(name) <= 64 else name[:61] + "...")
