"""What a monitor may say, and what it is told if it says something else."""

from __future__ import annotations

import pytest

import headway as hw

orders = hw.Source("orders", path="orders.csv", timestamp="at")
shop = hw.Entity("shop", key="shop_id")
sales = hw.FeatureView("sales", source=orders, entity=shop, features={"n": hw.count(window="7d")}, refresh="1h")


def model(**label: str) -> hw.Model:
    return hw.Model("delivery", label=hw.Label(orders, "minutes", **label), features=[sales], estimator="a:B")


def test_defaults() -> None:
    monitor = hw.Monitor(model(matures="3d"))
    assert monitor.name == "delivery"
    assert (monitor.reference, monitor.window, monitor.on_alert) == ("training", "7d", "notify")
    assert monitor.delay == 3 * 86_400_000_000
    assert str(monitor.schedule) == "0 6 * * *"
    assert monitor.raises("drift", "warning")
    assert not monitor.raises("drift", "info")
    assert hw.Monitor(model(), schedule=None).schedule is None


def test_a_threshold_holds_for_all_kinds_or_for_some() -> None:
    assert not hw.Monitor(model(), alert="critical").raises("skew", "warning")
    some = hw.Monitor(model(), alert={"drift": "critical", "volume": "off"})
    assert some.raises("drift", "critical")
    assert not some.raises("drift", "warning")
    assert not some.raises("volume", "critical")
    assert some.raises("skew", "warning")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"reference": "yesterday"}, "reference is one of training, previous, got 'yesterday'"),
        ({"window": "a week"}, "window is a whole number and a unit"),
        ({"window": "1s"}, "window is a minute or longer"),
        ({"label_delay": 3}, "label_delay is text such as"),
        ({"metrics": ["mae", "accurracy"]}, "no metric is called 'accurracy'; there are mae"),
        ({"columns": [1]}, "columns takes strings, got 1"),
        ({"segments": "yes"}, "segments is True or False"),
        ({"alert": "loud"}, "alert is one of critical, warning, info, off"),
        ({"alert": {"drft": "info"}}, "alert names the kind 'drft'; there are drift"),
        ({"on_alert": "page"}, "on_alert is one of notify, retrain, rollback, got 'page'"),
        ({"runbook": ""}, "runbook is a link or a sentence"),
        ({"schedule": "daily"}, "five fields"),
    ],
)
def test_what_is_wrong_is_told_with_where_it_is_written(wrong: dict, told: str) -> None:
    with pytest.raises(hw.HeadwayError) as caught:
        hw.Monitor(model(), **wrong)
    assert told in str(caught.value)
    assert "monitor 'delivery' (" in str(caught.value)
    assert "test_monitor.py" in str(caught.value)


def test_it_is_about_a_model() -> None:
    with pytest.raises(hw.HeadwayError, match=r"its first argument is an hw\.Model, got 'delivery'"):
        hw.Monitor("delivery")  # type: ignore[arg-type]
