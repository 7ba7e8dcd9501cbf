"""The prediction log: segments that servers write, the lake tables that they become, and reading those.

Light to import, since the serving process does: what keeps the lake is loaded when the log is compacted or read.
"""

from __future__ import annotations

from headway.data.predictions._compact import (
    APP,
    FOLDER,
    Compacted,
    compact,
    dropped_table,
    labels_table,
    predictions_table,
)
from headway.data.predictions._frames import (
    Dropped,
    LabelEntry,
    Labels,
    Layout,
    Rows,
    encode,
    label_text,
    layout_of,
    listed,
)
from headway.data.predictions._read import Logged, find, overview, read, read_labels
from headway.data.predictions._table import KEY, LABELS, OWN, Batch, batch_table, input_name, is_input, settled
from headway.data.segments import SegmentWriter

__all__ = [
    "APP",
    "FOLDER",
    "KEY",
    "LABELS",
    "OWN",
    "Batch",
    "Compacted",
    "Dropped",
    "LabelEntry",
    "Labels",
    "Layout",
    "Logged",
    "Rows",
    "SegmentWriter",
    "batch_table",
    "compact",
    "dropped_table",
    "encode",
    "find",
    "input_name",
    "is_input",
    "label_text",
    "labels_table",
    "layout_of",
    "listed",
    "overview",
    "predictions_table",
    "read",
    "read_labels",
    "settled",
]
