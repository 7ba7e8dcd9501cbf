"""A project in which everything DESIGN §3 speaks of happens. Tests copy it, and make up its data.

All of it happens around 1970, so that times are negative too, but for what daylight saving is about.
"""

from __future__ import annotations

import headway as hw
from headway.define import Check


def every(*windows: str | None) -> dict[str, str | hw.Aggregate]:
    """Every aggregate of every column it fits, over each window (None: all of the past)."""
    found: dict[str, str | hw.Aggregate] = {f"row_{column}": column for column in "ifsbdg"}
    for n, window in enumerate(windows):
        found[f"count{n}"] = hw.count(window=window)
        for column in "ifsbdg":
            for make in (hw.min, hw.max, hw.nunique, hw.first, hw.last):
                found[f"{make.__name__}_{column}{n}"] = make(column, window=window)
        for column in "ifb":
            found[f"sum_{column}{n}"] = hw.sum(column, window=window)
            found[f"mean_{column}{n}"] = hw.mean(column, window=window)
        for column in "if":
            found[f"std_{column}{n}"] = hw.std(column, window=window)
            for q in (0, 0.3, 0.5, 1):
                found[f"q{int(q * 100)}_{column}{n}"] = hw.quantile(column, q, window=window)
    return found


def few(*windows: str | None) -> dict[str, str | hw.Aggregate]:
    """One aggregate of each kind."""
    found: dict[str, str | hw.Aggregate] = {
        "row_i": "i",
        "row_s": "s",
        "last_f": hw.last("f"),
        "first_s": hw.first("s"),
    }
    for n, window in enumerate(windows):
        found |= {
            f"count{n}": hw.count(window=window),
            f"sum_i{n}": hw.sum("i", window=window),
            f"mean_f{n}": hw.mean("f", window=window),
            f"max_s{n}": hw.max("s", window=window),
            f"std_i{n}": hw.std("i", window=window),
            f"q{n}": hw.quantile("i", 0.9, window=window),
            f"last_f{n}": hw.last("f", window=window),
            f"nunique_i{n}": hw.nunique("i", window=window),
        }
    return found


def back(*windows: str | None) -> dict[str, str | hw.Aggregate | Check]:
    """What looks at some rows only, back from a past moment, at several values, or at other features."""
    found: dict[str, str | hw.Aggregate | Check] = {
        "lag_f": hw.lag("f", "2h"),
        "lag_s": hw.lag("s", "90m", within="1h"),
        "lag_i": hw.lag("i", "30m", where="b"),
        "since": hw.time_since_last(),
        "since_s": hw.time_since_last(where="s is not null", window="5h"),
        "share": hw.expr("recent / nullif(before0 + recent, 0)"),
        "recent": hw.count(window="2h"),
        "guess": hw.expr("coalesce(latest, share, -1)"),
        "latest": hw.last("f"),
        "latest_b": hw.last("i", where="b"),
        "either": hw.expr("coalesce(latest_b, mode_i0)"),
        "of_past": hw.last("i", offset="1h"),
    }
    for n, window in enumerate(windows):
        found |= {
            f"before{n}": hw.count(window=window, offset="2h"),
            f"positive{n}": hw.count(window=window, where="i > 0"),
            f"sum_b{n}": hw.sum("i", window=window, where="b", offset="30m"),
            f"mean_b{n}": hw.mean("f", window=window, where="not b"),
            f"max_s{n}": hw.max("s", window=window, offset="1h"),
            f"first_f{n}": hw.first("f", window=window, where="i > 0", offset="30m"),
            f"last_s{n}": hw.last("s", window=window, offset="1h"),
            f"std_f{n}": hw.std("i", window=window, offset="1us"),
            f"median_i{n}": hw.median("i", window=window, where="i > 0"),
            f"unique_s{n}": hw.nunique("s", window=window, offset="3h"),
            f"some_s{n}": hw.approx_nunique("s", window=window),
            f"three_i{n}": hw.last_n("i", 3, window=window),
            f"two_f{n}": hw.last_n("f", 2, window=window, where="b", offset="30m"),
            f"two_d{n}": hw.last_n("d", 2, window=window),
            f"two_s{n}": hw.last_n("s", 2, window=window),
            f"mode_b{n}": hw.mode("b", window=window, offset="1h", where="i > 0"),
        }
        found |= {f"mode_{column}{n}": hw.mode(column, window=window) for column in "ifsbd"}
    return found


timeless: dict[str, str | hw.Aggregate | Check] = {
    "mode_i": hw.mode("i", where="b"),
    "two_s": hw.last_n("s", 2),
    "many": hw.expr("count0 + coalesce(mode_i, 0)"),
}
user = hw.Entity("user", key="k")
pair = hw.Entity("pair", key=("p", "q"))

plain = hw.Source("plain", path="data/plain.parquet", timestamp="ts")
versions = hw.Source(
    "versions", path="data/versions.parquet", id="id", timestamp="ts", created="seen", delay="30m", deleted="gone"
)
delayed = hw.Source("delayed", path="data/delayed.parquet", timestamp="ts", delay="90m")
new_york = hw.Source(
    "new_york", path="data/new_york.parquet", id="id", timestamp="ts", created="seen", timezone="America/New_York"
)
lord_howe = hw.Source("lord_howe", path="data/lord_howe.parquet", timestamp="ts", timezone="Australia/Lord_Howe")
valid_from = hw.Source("valid_from", path="data/valid_from.parquet", timestamp="ts", effective=True)
contracts = hw.Source(
    "contracts", path="data/contracts.parquet", id=("p", "id"), timestamp="ts", created="seen", effective=True
)
dimension = hw.Source("dimension", path="data/dimension.parquet", id="k", deleted="gone")
pile = hw.Source("pile", path="data/pile.parquet")
prices = hw.Source("prices", path="data/prices.parquet", timestamp="at", created="seen")

joined = hw.Source(
    "joined",
    id="id",
    timestamp="ts",
    created="ended",
    query="""select v.id, v.k, v.ts, v.ended, v.i, v.f * 2 as f, v.s, d.s as ds, v.i + d.i as both
             from versions v left join dimension d on v.k = d.k where v.i is null or v.i <> 1""",
)
priced = hw.Source(
    "priced",
    timestamp="ts",
    query="""select t.k, t.ts, t.i, p.f, p.s from plain t asof left join prices p on t.k = p.k and t.ts >= p.at""",
)

views = [
    hw.FeatureView("past", source=plain, entity=user, features=every(None), ttl="9h"),
    hw.FeatureView("exact", source=plain, entity=user, features=every("1h", "7h")),
    hw.FeatureView(
        "grid", source=plain, entity=user, features=few("2h", "1d", None), refresh="3h", lag="40m", ttl="5h"
    ),
    hw.FeatureView("back", source=plain, entity=user, features=back("3h", None), refresh="1h", lag="10m", ttl="6h"),
    hw.FeatureView("back_exact", source=plain, entity=user, features=back("3h")),
    hw.FeatureView("odd", source=plain, entity=user, features=few("90m"), refresh="7h"),
    hw.FeatureView("corrected", source=versions, entity=user, features=few("6h", None), refresh="1h", ttl="4h"),
    hw.FeatureView("corrected_past", source=versions, entity=user, features=every(None), lag="1us"),
    hw.FeatureView("corrected_exact", source=versions, entity=user, features=every("1h", "1d")),
    hw.FeatureView("corrected_back", source=versions, entity=user, features=back("3h", None), refresh="1h", ttl="6h"),
    hw.FeatureView("corrected_back_exact", source=versions, entity=user, features=back("4h")),
    hw.FeatureView("waits", source=delayed, entity=user, features=few("2h", None), refresh="1h"),
    hw.FeatureView("waits_exact", source=delayed, entity=user, features=few("2h"), ttl="2h"),
    hw.FeatureView("pairs", source=delayed, entity=pair, features=few("3h", None), refresh="30m", ttl="3h"),
    hw.FeatureView("ny", source=new_york, entity=user, features=few("1h", "3h"), refresh="1h", ttl="2h"),
    hw.FeatureView("ny_exact", source=new_york, entity=user, features=every("1h")),
    hw.FeatureView("howe", source=lord_howe, entity=user, features=few("1h", None), refresh="30m"),
    hw.FeatureView("howe_exact", source=lord_howe, entity=user, features=few("30m"), ttl="1h"),
    hw.FeatureView("holds", source=valid_from, entity=user, features=every(None), ttl="3h"),
    hw.FeatureView("holds_grid", source=valid_from, entity=user, features=few("2h"), refresh="1h", ttl="1d"),
    hw.FeatureView("contract", source=contracts, entity=pair, features=few("2h", None), refresh="1h"),
    hw.FeatureView("contract_back", source=contracts, entity=pair, features=back("3h"), refresh="1h"),
    hw.FeatureView("who", source=dimension, entity=user, features=few(None) | timeless),
    hw.FeatureView("heap", source=pile, entity=user, features=every(None), refresh="1h"),
    hw.FeatureView(
        "joined_view",
        source=joined,
        entity=user,
        refresh="1h",
        ttl="6h",
        features=few("3h", None) | {"ds": "ds", "both_sum": hw.sum("both", window="1d"), "both": hw.last("both")},
    ),
    hw.FeatureView("priced_view", source=priced, entity=user, features=few("3h", None), refresh="30m"),
]
