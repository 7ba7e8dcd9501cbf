"""Lists of numbers in a model: an estimator's columns, the same in training, over HTTP and in batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import project
from tests.project import Shop
from tests.semantics.http import Http, wait

import headway as hw
from headway.orchestrate.serving import open_service


@pytest.fixture
def shop(tmp_path) -> Shop:
    made = project.build(tmp_path / "shop")
    made.edit(
        "shop/features.py",
        'features={"orders_7d": hw.count(window="7d"), "minutes_7d": hw.mean("minutes", window="7d")},',
        'features={"orders_7d": hw.count(window="7d"), "minutes_7d": hw.mean("minutes", window="7d"),'
        ' "lately": hw.last_n("minutes", 3), "shape": hw.vector("[minutes, -minutes]", dim=2),'
        ' "words": hw.last_n("city", 2)},',
    )
    made.edit("shop/models.py", "features=[sales,", 'features=[sales[["minutes_7d", "lately", "shape"]],')
    made.edit(
        "shop/features.py",
        "def at_request(minutes, distance):\n    return {",
        'def at_request(minutes, distance, shape):\n    return {"doubled": 2 * shape[:, 0], ',
    )
    made.edit(
        "shop/features.py",
        'inputs=[sales["minutes_7d"], hw.Request("distance", "double")]',
        'inputs=[sales["minutes_7d"], hw.Request("distance", "double"), sales["shape"]]',
    )
    return made


def test_lists_are_columns_of_the_estimator(shop: Shop) -> None:
    shop.call("run")
    with hw.load(shop.root) as opened:
        record = opened.models.champion("delivery")
        names = [c.name for c in record.serving.columns]
        assert names == [
            *("sales__minutes_7d", "sales__lately__0", "sales__lately__1", "sales__lately__2"),
            *("sales__shape__0", "sales__shape__1", "distance", "at_request__doubled", "at_request__pace"),
        ]
        now = opened.parts.clock.now()
        rows = {"shop_id": [0, 3, 99], "distance": [1.0, 2.0, 3.0]}
        batch = opened.predict("delivery", rows).column("prediction").to_pylist()
        with open_service(opened.settings, lambda: now) as service:
            service.start()
            try:
                wait(lambda: service.router.table.ready)
                answer = Http(service.app).post(
                    "/v1/models/delivery/predict",
                    {"entities": {"shop_id": rows["shop_id"]}, "features": {"distance": rows["distance"]}},
                )
            finally:
                service.stop()
    assert answer["predictions"] == pytest.approx(batch, rel=1e-12)
    assert len(set(batch)) == 3
    shop.call("features", "verify")
    read = shop.call("predict", "delivery", "-i", "data/orders.parquet", "-o", "out.parquet")
    assert read.code == 0
    assert pq.read_table(shop.root / "out.parquet").num_rows == project.ORDERS


def test_a_list_of_texts_is_no_column(shop: Shop) -> None:
    shop.edit("shop/models.py", '"lately", "shape"', '"lately", "words"')
    shop.call("ingest")
    said = shop.call("train", "delivery", code=1).err
    assert "feature 'words' of view 'sales' is a list of string, which no estimator takes" in said


def test_a_matrix_has_what_a_table_has(shop: Shop) -> None:
    shop.call("run")
    with hw.load(shop.root) as opened:
        sales, footfall = (opened.declarations.views[name] for name in ("sales", "footfall"))
        numbers = [f.name for f in footfall.features]
        views = [sales[["minutes_7d", "lately"]], footfall]
        keys = {"shop_id": [3, None, 99, 0, 3]}
        table, matrix = opened.online.read(views, keys), opened.online.matrix(views, keys)

        expected = [table["sales__minutes_7d"].to_pylist()]
        lists = table["sales__lately"].to_pylist()
        expected += [[None if row is None else row[i] for row in lists] for i in range(3)]
        expected += [table[f"footfall__{name}"].to_pylist() for name in numbers]
        right = np.array([[np.nan if v is None else v for v in column] for column in expected], np.float64).T
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, right)
        assert not np.isnan(right[0]).all()
        assert np.isnan(right[1]).all()
        np.testing.assert_array_equal(opened.online.matrix(views, pa.table(keys)), right)
        assert opened.online.matrix("footfall", {"shop_id": []}).shape == (0, len(numbers))

        with pytest.raises(hw.HeadwayError, match="feature 'words' of view 'sales' is no number; leave it out"):
            opened.online.matrix("sales", keys)
        with pytest.raises(hw.HeadwayError, match="view 'footfall' needs key 'shop_id' exactly once"):
            opened.online.matrix("footfall", {"shop": [1]})
        for ask in (opened.online.matrix, opened.online.read):
            for wrong in (3, [2**70]):
                with pytest.raises(hw.HeadwayError, match="keys cannot be read as a table|is of type int64, and"):
                    ask("footfall", {"shop_id": wrong})
        with pytest.raises(hw.HeadwayError, match="expected length 1 but got length 2"):
            opened.online.matrix(views, {"shop_id": [1], "unused": [1, 2]})
