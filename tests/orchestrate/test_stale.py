"""What a change makes stale, and that a run does that and nothing else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.project import Shop, stages

TRAIN = {("train", "delivery")}
DECIDED = {*TRAIN, ("promote", "delivery")}


def planned(shop: Shop) -> set[tuple[str, str]]:
    return stages(shop.call("plan", "--json").json())


def ran(shop: Shop) -> set[tuple[str, str]]:
    """What a run did. A gate may refuse what was trained: that is a decision too."""
    outcome = shop.call("run", "--json", code=None)
    assert outcome.code in (0, 3), outcome.err
    items = outcome.json()
    return stages([{**i, "outcome": "done"} if i["outcome"] == "refused" else i for i in items])


def test_all_is_up_to_date_after_a_run(shop: Shop) -> None:
    assert planned(shop) == set()
    assert "everything is up to date" in shop.call("plan").out
    assert "nothing to do" in shop.call("run").out


def test_nothing_is_up_to_date_before(empty: Shop) -> None:
    items = empty.call("plan", "--json").json()
    assert items
    assert all(i["stale"] for i in items)


def test_a_comment_changes_nothing(shop: Shop) -> None:
    shop.edit("shop/helpers.py", "    return value", "    # what a kilometre costs\n    return value")
    assert planned(shop) == set()
    assert ran(shop) == set()


def test_a_comment_and_a_docstring_in_a_request_function_change_nothing(shop: Shop) -> None:
    shop.edit(
        "shop/features.py", "def at_request(minutes, distance):\n", "def at_request(minutes, distance):\n\n    # x\n"
    )
    shop.edit("shop/models.py", "import headway as hw", "# the models\n\nimport headway as hw")
    assert planned(shop) == set()


def test_a_helper_of_a_request_function_trains_anew(shop: Shop) -> None:
    shop.edit("shop/helpers.py", "distance + 1.0", "distance + 2.0")
    assert planned(shop) == TRAIN
    assert ran(shop) == DECIDED
    assert planned(shop) == set()


def test_a_helper_of_an_estimator_trains_anew(shop: Shop) -> None:
    shop.edit("shop/models.py", "make_pipeline(SimpleImputer(), ", "make_pipeline(SimpleImputer(strategy='median'), ")
    assert planned(shop) == TRAIN
    assert ran(shop) == DECIDED


def test_parameters_train_anew(shop: Shop) -> None:
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 1.0')
    assert planned(shop) == TRAIN
    assert ran(shop) == DECIDED
    assert planned(shop) == set()


@pytest.mark.parametrize("what", ["changed", "added"])
def test_a_row_runs_what_depends_on_it(shop: Shop, what: str) -> None:
    orders = shop.orders()
    if what == "changed":
        distance = [orders["distance"][0].as_py() + 1, *orders["distance"].to_pylist()[1:]]
        orders = orders.set_column(4, "distance", pa.array(distance))
    else:
        row = orders.slice(399).set_column(0, "order_id", pa.array([400]))
        orders = pa.concat_tables([orders, row])
    shop.write_orders(orders)
    before = {("ingest", "raw_orders"), ("check", "orders"), ("train", "delivery"), ("materialize", "sales")}
    assert planned(shop) == before
    assert ran(shop) - {("promote", "delivery"), ("materialize", "sales")} == before - {("materialize", "sales")}
    assert planned(shop) == set()
    assert shop.call("features", "verify", "--json").json()[0]["differences"] == {}


def test_a_row_nobody_learns_from_trains_nothing(shop: Shop) -> None:
    file = shop.root / "data/visits.parquet"
    visits = pq.read_table(file)
    pq.write_table(pa.concat_tables([visits, visits.slice(10, 1)]), file)
    expected = {("ingest", "visits"), ("check", "visits"), ("materialize", "footfall")}
    assert planned(shop) == expected
    assert ran(shop) == expected
    assert planned(shop) == set()


def test_the_same_rows_written_again_change_nothing(shop: Shop) -> None:
    shop.write_orders(shop.orders())
    assert planned(shop) == set()


def test_a_window_runs_its_view_and_who_uses_it(shop: Shop) -> None:
    shop.edit("shop/features.py", 'hw.count(window="7d"), "minutes_7d"', 'hw.count(window="8d"), "minutes_7d"')
    assert planned(shop) == {*TRAIN, ("materialize", "sales")}
    done = ran(shop)
    assert {*DECIDED} <= done
    assert ("materialize", "footfall") not in done
    assert planned(shop) == set()


def test_a_check_is_checked_anew_and_nothing_else(shop: Shop) -> None:
    shop.edit(
        "shop/sources.py",
        'timestamp="at", checks=[hw.not_null("shop_id")]',
        'timestamp="at", checks=[hw.row_count(100)]',
    )
    assert planned(shop) == {("check", "visits")}
    assert ran(shop) == {("check", "visits")}
    assert planned(shop) == set()


def test_a_target_runs_what_it_needs(empty: Shop) -> None:
    done = stages(empty.call("run", "footfall", "--json").json())
    assert done == {("ingest", "visits"), ("check", "visits"), ("materialize", "footfall")}


def test_a_batch_prediction_is_written_to_the_lake(shop: Shop) -> None:
    done = shop.call("run", "scored", "--json").json()
    assert [i["detail"] for i in done if i["stage"] == "predict"] == ["400 rows by version 1 → lake:scored"]
    assert len({(i["stage"], i["target"]) for i in done}) == len(done)
