"""What a project that stays open makes of rows and definitions that change."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
from tests.project import Shop, forget_package

import headway as hw


def test_a_data_clock_follows_the_rows(shop: Shop) -> None:
    settings = shop.root / "headway.toml"
    settings.write_text(settings.read_text().replace('clock = "2024-03-01T00:30:00Z"', 'clock = "data"'))
    forget_package()
    with hw.load(shop.root) as opened:
        opened.run("visits")
        before = opened.parts.clock.now()
        file = shop.root / "data" / "visits.parquet"
        rows = pq.read_table(file)
        later = pa.scalar(before + 3_600_000_000, pa.int64()).cast(rows.schema.field("at").type)
        more = rows.slice(0, 1).set_column(
            rows.schema.get_field_index("at"), "at", pa.array([later.as_py()], later.type)
        )
        pq.write_table(pa.concat_tables([rows, more]), file)
        opened.run("visits")
        assert opened.parts.clock.now() == before + 3_600_000_001


def test_the_feature_server_reads_the_definition_of_the_project(shop: Shop) -> None:
    features = shop.root / "shop" / "features.py"
    text = features.read_text()
    features.write_text(text.replace('hw.mean("minutes", window="7d")', 'hw.mean("minutes", window="14d")'))
    forget_package()
    with hw.load(shop.root) as opened:
        opened.run()
        needed = opened.features.needed()
        assert sum(plan.name == "sales" for plan in needed.values()) == 2  # the old version's is kept beside it
        opened.features.materialize()
        own = opened.features.plans()["sales"].fingerprint
        assert opened.parts.metadata.published.features().views["sales"].fingerprint == own
