"""Labels that come over HTTP: which row of which request turned out to be what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from headway.data.predictions import LabelEntry, label_text
from headway.define.records import ServingPlan
from headway.errors import suggest
from headway.serve._body import Given, columns_of, rows_of
from headway.serve._fields import ABSENT
from headway.serve._problems import Refused, shown

_FIELDS = ("request_id", "row", "label")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_MOST_ROWS = 2**31


def read_labels(content: Any, most_rows: int) -> Given:
    """The body of a label request, ``{"request_id": …, "row": …, "label": …}``, each a value or a list of values, or
    a list of such objects, or ``{"rows": [objects]}``. Raises ``Refused``."""
    if type(content) is dict and "rows" not in content:
        given = columns_of(content, most_rows)
    else:
        given = rows_of(content, most_rows, '{"request_id": …, "label": …} or a list of such objects')
    for name in given.columns:
        if name not in _FIELDS:
            raise Refused(422, f"a label has no field {shown(name)}; {suggest(name, _FIELDS)}")
    for name in ("request_id", "label"):
        if name not in given.columns:
            raise Refused(422, f"the labels lack {name!r}: a label is of a request that was answered")
    return given


def label_entries(given: Given, plan: ServingPlan | None, known_at: int, logged_at: int) -> list[LabelEntry]:
    """The labels of a request, checked against what the model predicts (if a version of it is live).

    ``known_at`` is the clock's now: a label is known when it is told. Raises ``Refused``.
    """
    rows = given.columns.get("row", [None] * given.rows)
    found = []
    for at, (request_id, row, label) in enumerate(
        zip(given.columns["request_id"], rows, given.columns["label"], strict=True)
    ):
        row = None if row is ABSENT else row
        if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
            raise Refused(422, f"label {at}: request_id is the request_id of an answer, a text")
        if row is not None and (type(row) is not int or not 0 <= row < _MOST_ROWS):
            raise Refused(422, f"label {at}: row is the number of a row of the request, from 0 on")
        _check(label, at, plan)
        found.append(LabelEntry(request_id, row, label_text(label), known_at, logged_at))
    return found


def _check(label: Any, at: int, plan: ServingPlan | None) -> None:
    if type(label) not in (bool, int, float, str):
        raise Refused(422, f"label {at} is a number, a text or a truth value; what is not known yet is not sent")
    if plan is None:
        return
    if plan.task == "regression":
        if type(label) not in (int, float):
            raise Refused(422, f"label {at}: model {plan.model!r} predicts numbers, so its labels are numbers")
    elif plan.classes is not None and label_text(label) not in _class_texts(plan.classes):
        raise Refused(422, f"label {at} is none of the classes that model {plan.model!r} knows")


def _class_texts(classes: Sequence[Any]) -> set[str]:
    """Classes as texts; 1 and 1.0 are one class, and so are 0 and false where classes are truth values."""
    found = {label_text(value) for value in classes}
    for value in classes:
        if isinstance(value, bool):
            found |= {str(int(value))}
        elif isinstance(value, int | float) and float(value).is_integer():
            found |= {str(int(value)), repr(float(value))}
    return found
