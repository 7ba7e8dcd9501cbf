"""Rows that come over HTTP for a source."""

from __future__ import annotations

from typing import Any

import msgspec

from headway.errors import DataError, NotFoundError, StoreError, UsageError
from headway.serve._body import Given, columns_of, read_json, rows_of
from headway.serve._fields import ABSENT
from headway.serve._problems import Refused
from headway.serve._protocols import RowSink

_SHAPE = '{"column": [values], …} or a list of row objects'
_RETRY = ((b"retry-after", b"1"),)


def read_rows(body: bytes, most_rows: int) -> Given:
    """A body of JSON as columns. Raises ``Refused``."""
    content: Any = read_json(body)
    if type(content) is dict and "rows" not in content:
        given = columns_of(content, most_rows)
    else:
        given = rows_of(content, most_rows, _SHAPE)
    for name, values in given.columns.items():
        if ABSENT in values:
            given.columns[name] = [None if value is ABSENT else value for value in values]
    return given


def push_rows(sink: RowSink, source: str, given: Given, request_id: str) -> bytes:
    """Keep the rows of a request, and the answer to it. Raises ``Refused``; nothing is kept then."""
    try:
        rows = sink.push(source, given.columns)
    except NotFoundError as error:
        raise Refused(404, f"{error}; a source is known here once it was run") from None
    except UsageError as error:
        raise Refused(409, str(error)) from None
    except DataError as error:
        raise Refused(422, str(error)) from None
    except StoreError as error:
        raise Refused(503, str(error), _RETRY) from None
    return msgspec.json.encode({"source": source, "rows": rows, "request_id": request_id})
