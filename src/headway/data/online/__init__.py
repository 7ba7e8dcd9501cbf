"""The online store: the latest row per entity and view, written by ``materialize``, read by serving.

Backends are ``OnlineStore``s, which know bytes only; what the bytes mean is decided here, once for all of them.
Importing this package loads no backend: ``headway.data.online.lmdb`` is the embedded one.
"""

from headway.data.online._keys import (
    Key,
    Watermark,
    encode_keys,
    fingerprint_prefix,
    read_watermark,
    row_prefix,
    write_watermark,
)
from headway.data.online._packing import pack
from headway.data.online._protocol import Concern, Counting, Examined, OnlineStore, kept_key, stamp, unstamp
from headway.data.online._read import STATES, OnlineColumns, OnlineReader, PlanReader
from headway.data.online._stored import StoredRows, StoredView, digests
from headway.data.online._table import read_matrix, read_table, stored_rows

__all__ = [
    "STATES",
    "Concern",
    "Counting",
    "Examined",
    "Key",
    "OnlineColumns",
    "OnlineReader",
    "OnlineStore",
    "PlanReader",
    "StoredRows",
    "StoredView",
    "Watermark",
    "digests",
    "encode_keys",
    "fingerprint_prefix",
    "kept_key",
    "pack",
    "read_matrix",
    "read_table",
    "read_watermark",
    "row_prefix",
    "stamp",
    "stored_rows",
    "unstamp",
    "write_watermark",
]
