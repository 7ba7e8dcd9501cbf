"""Keys: one per entity, whatever container or width its columns come in."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.online import encode_keys, fingerprint_prefix, row_prefix
from headway.define.records import FeaturePlan, Field, ViewPlan
from headway.errors import DataError

INT64 = st.integers(-(2**63), 2**63 - 1)


def plan_for(*types: str) -> ViewPlan:
    keys = tuple(Field(f"k{i}", kind) for i, kind in enumerate(types))
    return ViewPlan("view", "0f" * 16, "source", (), "", keys, (FeaturePlan("n", "count", "int64"),))


def encode(plan, *columns):
    return encode_keys(plan, {f"k{i}": list(column) for i, column in enumerate(columns)})


def test_every_key_begins_with_the_fingerprint():
    plan = plan_for("int64")
    (key,) = encode(plan, [5])
    assert key.startswith(fingerprint_prefix(plan))
    assert key.startswith(row_prefix(plan))


def test_composite_keys_do_not_collide():
    plan = plan_for("string", "string")
    one, other = encode(plan, ["1", "12"], ["23", "3"])
    assert one != other


@given(rows=st.lists(st.tuples(st.text(max_size=4), INT64, st.binary(max_size=4)), min_size=1, max_size=20))
def test_equal_keys_and_only_they_are_encoded_alike(rows):
    plan = plan_for("string", "int64", "binary")
    encoded = encode(plan, *zip(*rows, strict=True))
    assert len(set(encoded)) == len(set(rows))


@given(rows=st.lists(st.tuples(INT64, INT64), min_size=1, max_size=20))
def test_pairs_of_integers(rows):
    encoded = encode(plan_for("int64", "int64"), *zip(*rows, strict=True))
    assert len(set(encoded)) == len(set(rows))


@given(rows=st.lists(st.tuples(st.text(max_size=3), INT64, st.none() | st.text(max_size=3)), min_size=1, max_size=9))
def test_a_request_and_a_table_give_the_same_keys(rows):
    for plan in (plan_for("string", "int64", "string"), plan_for("string", "int64"), plan_for("string")):
        columns = {field.name: column for field, column in zip(plan.keys, zip(*rows, strict=True), strict=False)}
        table = pa.table({name: list(column) for name, column in columns.items()})
        if pa.types.is_null(table.schema.types[-1]):
            table = table.set_column(2, "k2", pa.nulls(len(rows), pa.string()))
        assert encode_keys(plan, columns) == encode_keys(plan, table)


@given(values=st.lists(INT64, min_size=1, max_size=300))
def test_lists_and_tables_give_the_same_keys(values):
    plan = plan_for("int64")
    table = pa.table({"k0": pa.chunked_array([values[:2], values[2:]], pa.int64())})
    assert encode(plan, values) == encode_keys(plan, table) == encode_keys(plan, {"k0": np.array(values)})


@given(values=st.lists(st.text(), min_size=1, max_size=10))
def test_text_in_any_arrow_form(values):
    plan = plan_for("string")
    plain = encode(plan, values)
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        array = (
            pa.array(values, pa.string()).dictionary_encode()
            if pa.types.is_dictionary(kind)
            else pa.array(values, kind)
        )
        assert encode_keys(plan, pa.table({"k0": array})) == plain


def test_text_is_not_normalised_or_folded():
    assert len(set(encode(plan_for("string"), ["é", "e\u0301", "É", ""]))) == 4


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint16"])
def test_integer_widths_do_not_matter(kind):
    plan = plan_for(kind)
    expected = encode(plan, [7, 100])
    for given_as in (pa.int8(), pa.int32(), pa.int64(), pa.uint64()):
        assert encode_keys(plan, pa.table({"k0": pa.array([7, 100], given_as)})) == expected
    assert encode_keys(plan, pa.table({"k0": pa.array([7.0, 100.0])})) == expected


def test_whole_floats_with_nulls_are_the_integers_they_came_from():
    plan = plan_for("int64")
    assert encode_keys(plan, pa.table({"k0": pa.array([7.0, None])})) == [*encode(plan, [7]), None]
    assert encode_keys(plan, {"k0": np.array([7.0, np.nan])}) == [*encode(plan, [7]), None]


def test_a_null_in_any_column_gives_no_key():
    assert encode(plan_for("int64", "string"), [1, None, 2], ["a", "b", None])[1:] == [None, None]
    assert encode(plan_for("int64"), [None, None]) == [None, None]


def test_float_keys():
    plan = plan_for("double")
    zero, minus_zero, nan, other_nan = encode(plan, [0.0, -0.0, float("nan"), -float("nan")])
    assert zero == minus_zero
    assert nan == other_nan
    assert zero != nan
    assert encode(plan, [2]) == encode(plan, [2.0])


def test_times_and_dates_and_unsigned():
    noon = dt.datetime(2024, 1, 5, 12, tzinfo=dt.UTC)
    plan = plan_for("timestamp[us, tz=UTC]")
    seconds = pa.array([noon], pa.timestamp("s", "Europe/Lisbon"))
    assert encode(plan, [noon]) == encode_keys(plan, pa.table({"k0": seconds}))
    assert len(set(encode(plan_for("date32[day]"), [dt.date(1969, 12, 31), dt.date(1970, 1, 1)]))) == 2
    assert len(set(encode(plan_for("uint64"), [2**64 - 1, 0]))) == 2
    assert len(set(encode(plan_for("bool", "bool"), [True, False, True], [False, True, True]))) == 3


def test_a_view_without_keys_has_one_entity():
    assert encode_keys(plan_for(), {}) == [row_prefix(plan_for())]


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("int64", ["1"], "'k0' of view 'view' is of type int64, and string was given"),
        ("int64", [1.5], "is of type int64, and double was given"),
        ("int64", [True], "is of type int64, and bool was given"),
        ("int64", [2**63], "is of type int64"),
        ("int64", [1, "a"], "values of several kinds"),
        ("string", [1], "is of type string, and int64 was given"),
        ("string", ["\ud800"], "is of type string"),
        ("string", [b"1"], "is of type string, and binary was given"),
        ("date32[day]", [1], "is of type date32"),
        ("timestamp[us, tz=UTC]", [dt.datetime(2024, 1, 1)], "timestamp"),
    ],
)
def test_a_key_of_another_kind_is_refused(kind, column, message):
    with pytest.raises(DataError, match=message):
        encode(plan_for(kind), column)


def test_a_missing_or_uneven_column_is_refused():
    plan = plan_for("int64", "int64")
    with pytest.raises(DataError, match="keyed by 'k1'"):
        encode_keys(plan, {"k0": [1]})
    with pytest.raises(DataError, match="different lengths"):
        encode_keys(plan, {"k0": [1], "k1": [1, 2]})
