"""Rows that come as Arrow batches: from a database, a function or a push."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain

import pyarrow as pa

from headway.data.sources._columns import Column
from headway.data.sources._normalise import Normaliser
from headway.data.sources._protocol import Counts
from headway.data.sources._schema import Held, unify
from headway.data.sources._text import Kinds
from headway.data.sources._types import declared_schema
from headway.define import Source
from headway.errors import DataError

STANDS_FOR = b"headway:texts"
"""The key of a column's metadata that says what its texts stand for: ``date`` or ``time``."""

TIME: Kinds = frozenset(("time",))
DATE: Kinds = frozenset(("date",))


class RawReader:
    """A ``SourceReader`` over batches with the user's columns.

    The columns are those that the source declares with ``schema``, else those of ``schema``, else those of the first
    batch. ``where`` is what a message says of where rows come from; ``held`` are the columns the lake has.
    """

    def __init__(
        self,
        source: Source,
        batches: Iterable[pa.RecordBatch],
        where: str,
        schema: pa.Schema | None = None,
        held: Held | None = None,
    ) -> None:
        self._source, self._where, self._held = source, where, held
        self._rest = iter(batches)
        self._declared = declared_schema(source)
        self._given = schema
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        return self._counts

    @property
    def schema(self) -> pa.Schema:
        return self._normaliser.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        normaliser = self._normaliser
        for batch in self._rest:
            self._check_columns(batch.schema)
            try:
                yield normaliser.batch(batch)
            except DataError as error:
                raise DataError(str(self._source.refuse(f"{self._where}: {error}"))) from None
        normaliser.finish()

    @cached_property
    def _columns(self) -> pa.Schema:
        if self._declared is not None:
            return self._declared
        if self._given is not None:
            return self._given
        first = next(self._rest, None)
        if first is not None:
            self._rest = chain([first], self._rest)
            return first.schema
        if self._held is not None:
            return self._held.schema
        raise DataError(
            str(
                self._source.refuse(
                    f"{self._where} gave no rows and no columns, so nothing is known of them; declare them with schema="
                )
            )
        )

    @cached_property
    def _normaliser(self) -> Normaliser:
        columns = [Column(item.name, item.type, _stands_for(item)) for item in self._columns]
        return Normaliser(self._source, unify(self._source, {self._where: columns}, self._held), self._counts)

    def _check_columns(self, found: pa.Schema) -> None:
        """Refuse a column nobody expects: it would be lost."""
        for name in found.names:
            if name not in self._columns.names:
                mend = "add it to schema=" if self._declared is not None else "declare the columns with schema="
                raise DataError(
                    str(self._source.refuse(f"{self._where} has a column {name!r} that was not expected; {mend}"))
                )


def _stands_for(item: pa.Field) -> Kinds | None:
    """What the texts of a column stand for, if their origin says that they are dates or times."""
    said = (item.metadata or {}).get(STANDS_FOR, b"").decode()
    return {"time": TIME, "date": DATE}.get(said)
