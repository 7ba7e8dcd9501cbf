"""Reports: one page that needs nothing else, and the same as JSON."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from headway.clock import from_iso
from headway.define.watch_records import Figure
from headway.monitor import WindowReport, to_html, to_json

DAY = 86_400_000_000
START = from_iso("2025-11-03T00:00:00Z")
VOID = {"meta", "line", "rect", "circle", "polyline", "link"}


def figure(kind: str, name: str, **values: object) -> Figure:
    place = {"model": "trips", "version": 3, "window_start": START, "window_end": START + 7 * DAY, "n": 11204}
    return Figure(**{**place, "kind": kind, "name": name, **values})  # type: ignore[arg-type]


def report(*figures: Figure, **values: object) -> WindowReport:
    about = {
        "project": "taxi",
        "env": "local",
        "model": "trips",
        "version": 3,
        "window_start": START,
        "window_end": START + 7 * DAY,
        "rows": 11204,
        "reference": "version 3: the training set",
        "made_at": START + 8 * DAY,
        "blind": ("A change of how columns go together does not show.",),
    }
    return WindowReport(**{**about, "figures": figures, **values})  # type: ignore[arg-type]


DRIFT = figure(
    "drift",
    "fare_amount",
    alarm=True,
    severity="critical",
    effect=0.41,
    threshold=0.12,
    p=1e-9,
    method="history of 20 windows",
    said="fare_amount is higher than in the reference: median 12.1 → 19.4",
    details={"bins": ["≤ 10", "10 … 20", "> 20"], "reference": [0.5, 0.3, 0.2], "current": [0.1, 0.3, 0.6]},
)


class Balanced(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parsed(page: str) -> Balanced:
    found = Balanced()
    found.feed(page)
    assert found.open == []
    return found


def test_a_page_needs_nothing_else() -> None:
    page = to_html(report(DRIFT))
    assert not {"script", "link", "img", "iframe"} & set(parsed(page).seen)
    assert not re.search(r"https?://", page)
    assert "prefers-color-scheme:dark" in page


def test_a_column_that_moved_is_drawn_and_told_with_what_it_rests_on() -> None:
    page = to_html(report(DRIFT, figure("drift", "tip", said="tip is as it was")))
    assert "median 12.1 → 19.4" in page
    assert "effect 0.41, n = 11,204, threshold 0.12, p &lt; 1e-6, history of 20 windows" in page
    assert page.count("<svg") == 1
    assert page.count('<rect class="ref"') == page.count('<rect class="now"') == 3
    assert "10 … 20: now 30.0%" in page
    assert "1 alarm: fare_amount." in page


def test_what_moved_most_is_told_first() -> None:
    small = figure("missing", "tip", alarm=True, severity="warning", said="moved a little")
    large = figure("missing", "fare", alarm=True, severity="critical", said="moved a lot")
    page = to_html(report(small, large))
    assert page.index("moved a lot") < page.index("moved a little")


def test_a_clean_window_says_so() -> None:
    page = to_html(report(figure("drift", "fare_amount", effect=0.01)))
    assert "Nothing moved more than it usually does." in page
    assert "What was found" not in page


def test_a_window_without_predictions_says_so() -> None:
    assert "Nothing was predicted" in to_html(report(rows=0))


def test_metrics_are_drawn_over_windows_with_what_is_estimated_beside_what_is_known() -> None:
    history = [
        figure("performance", "mae", window_end=START + n * 7 * DAY, statistic=300.0 + n, threshold=320.0)
        for n in range(1, 6)
    ]
    history += [figure("estimate", "mae", window_end=START + n * 7 * DAY, statistic=290.0 + n) for n in range(4, 8)]
    page = to_html(report(history=tuple(history)))
    assert "mae over windows" in page
    assert page.count('<polyline class="line now"') == 1
    assert page.count('<polyline class="line dashed"') == 1
    assert 'class="level"' in page


def test_a_metric_of_one_window_is_a_dot() -> None:
    page = to_html(report(history=(figure("performance", "mae", statistic=300.0, alarm=True),)))
    assert 'class="dot alarm"' in page
    assert "<polyline" not in page


def test_segments_are_told_apart() -> None:
    page = to_html(report(figure("drift", "fare", segment="Bronx", alarm=True, said="fare is lower", n=120)))
    assert "By segment" in page
    assert "Bronx: fare is lower" in page


def test_what_figures_cannot_show_is_said() -> None:
    assert "how columns go together" in to_html(report())


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "a & b"])
def test_names_from_the_data_are_only_text(text: str) -> None:
    odd = msgspec.structs.replace(
        DRIFT, name=text, said=text, segment=text, details={**DRIFT.details, "bins": [text, text, text]}
    )
    page = to_html(report(odd, model=text, runbook=text, notes=(text,), blind=(text,)))
    assert text not in page
    assert not {"script", "img"} & set(parsed(page).seen)


def test_a_runbook_that_is_a_link_is_one() -> None:
    assert '<a href="https://example.com/runbook">' in to_html(report(runbook="https://example.com/runbook"))


def test_json_is_the_whole_report() -> None:
    whole = report(DRIFT)
    assert msgspec.json.decode(to_json(whole), type=WindowReport) == whole


def test_the_name_of_a_report_is_its_window() -> None:
    assert report().name == "2025-11-03_2025-11-10"
    assert report(window_end=START + DAY // 24).name == "2025-11-03_2025-11-03T0100"
