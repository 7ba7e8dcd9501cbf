"""Charts are well-formed, say what they show in words, and lay graphs out without overlaps."""

from __future__ import annotations

import math
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.console.charts import Bar, Bin, Line, Point, comparison, gantt, graph, histogram, moment, series, sparkline
from headway.console.layout import Node, layered

NASTY = "<script>alert(\"x\")</script> & 'y' ≤ \N{SNOWMAN}"
DAY = 86_400_000_000
SVG = "{http://www.w3.org/2000/svg}"

names = st.integers(0, 25).map(str)
graphs = st.tuples(st.lists(names, unique=True, max_size=26), st.lists(st.tuples(names, names), max_size=60))


def parsed(svg: str) -> ElementTree.Element:
    """The chart as XML; fails where it is not well-formed."""
    return ElementTree.fromstring(str(svg))


def texts(svg: str, tag: str = "text") -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}{tag}")]


def points(values: list[float | None], threshold: float | None = None) -> list[Point]:
    return [
        Point(n * DAY, value, threshold, bool(threshold and value and value > threshold))
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    "svg",
    [
        sparkline([1.0, 2.0], NASTY),
        histogram([Bin(NASTY, 0.5)], NASTY),
        comparison([Bin(NASTY, 0.5, 0.2, True), Bin("b", 0.5, 0.8)], NASTY),
        series([Line(NASTY, [Point(0, 1.0, 2.0, True, NASTY), Point(DAY, 3.0)])], NASTY),
        gantt([Bar(NASTY, 0, 1_000_000, "done", f"/x?{NASTY}", NASTY)], NASTY),
        graph([Node("a", NASTY, NASTY, "done", f"/x?{NASTY}"), Node("b", "b")], [("a", "b")], NASTY),
    ],
    ids=["sparkline", "histogram", "comparison", "series", "gantt", "graph"],
)
def test_what_users_wrote_stays_text(svg: str) -> None:
    assert "<script" not in svg
    said = "".join(parsed(svg).itertext())
    assert NASTY in said


@pytest.mark.parametrize(
    "svg",
    [
        histogram([], "h"),
        comparison([], "c"),
        series([], "s"),
        series([Line("a", [])], "s"),
        gantt([], "g"),
        graph([], [], "g"),
    ],
)
def test_without_anything_to_draw_it_says_so(svg: str) -> None:
    assert "<svg" not in svg
    assert len("".join(parsed(svg).itertext())) > 5
    assert "<svg" not in sparkline([], "none") + sparkline([None, math.nan], "none")


def test_images_have_a_title_and_a_description() -> None:
    for svg in (sparkline([1.0, 3.0, 2.0], "trips"), series([Line("a", points([1.0, 9.0], 5.0))], "trips")):
        root = parsed(svg)
        assert root.get("role") == "img"
        assert (root.findtext(f"{SVG}title"), bool(root.findtext(f"{SVG}desc"))) == ("trips", True)


def test_the_bin_that_moved_is_marked_and_named() -> None:
    svg = comparison([Bin("low", 0.2, 0.5), Bin("high", 0.8, 0.5, moved=True)], "fare")
    assert "high from 50 % to 80 %" in texts(svg, "desc")[0]
    assert "▲" in texts(svg)
    assert svg.count("moved") >= 1


def test_alarms_are_drawn_last_and_told_in_words() -> None:
    svg = series([Line("fare", points([0.1, 0.2, 0.9], 0.5))], "drift")
    circles = [c.get("class") for c in parsed(svg).iter(f"{SVG}circle")]
    assert circles == ["dot", "dot", "alarm"]
    assert "alarms at 3 Jan" in texts(svg, "desc")[0]


def test_gaps_in_a_line_stay_gaps() -> None:
    svg = series([Line("fare", points([1.0, None, 2.0, 3.0]))], "fare")
    (path,) = [p for p in parsed(svg).iter(f"{SVG}path") if "line" in p.get("class", "")]
    assert path.get("d", "").count("M") == 2


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=40), st.booleans())
def test_any_values_give_well_formed_charts_inside_their_frame(values: list[float | None], zero: bool) -> None:
    spark = sparkline(values, "values")
    drawn = series([Line("values", points(values))], "values", zero=zero)
    for svg in (spark, drawn):
        root = parsed(svg)
        height = float(root.get("height", "inf"))
        for circle in root.iter(f"{SVG}circle"):
            assert -1 <= float(circle.get("cy", "nan")) <= height + 1
        assert "nan" not in str(svg).replace("values", "")


def test_time_is_written_as_short_as_its_span_allows() -> None:
    at = 1_709_253_000_000_000  # 2024-03-01 00:30
    assert [moment(at, span) for span in (DAY // 100, DAY, 30 * DAY, 900 * DAY)] == [
        "00:30",
        "00:30",
        "1 Mar",
        "Mar 2024",
    ]


def test_bars_of_a_run_begin_where_their_step_did() -> None:
    svg = gantt([Bar("a", 0, 2_000_000), Bar("b", 1_000_000, 2_000_000, "failed", "/runs/1")], "run 1")
    first, second = (r for r in parsed(svg).iter(f"{SVG}rect"))
    left = [float(r.get("x", "").rstrip("%")) for r in (first, second)]
    width = [float(r.get("width", "").rstrip("%")) for r in (first, second)]
    assert left[1] == pytest.approx(left[0] + width[0] / 2)
    assert width[1] == pytest.approx(width[0] / 2)
    assert left[0] + width[0] < 100


def test_nodes_of_a_graph_are_links() -> None:
    svg = graph([Node("a", "orders", "400 rows", "done", "/data/orders"), Node("b", "sales")], [("a", "b")], "lineage")
    links = [a.get("href") for a in parsed(svg).iter(f"{SVG}a")]
    assert links == ["/data/orders"]


def test_a_chain_runs_from_left_to_right_in_one_line() -> None:
    found = layered([Node(n, n) for n in "cab"], [("a", "b"), ("b", "c")])
    at = {p.node.id: p for p in found.nodes}
    assert at["a"].x < at["b"].x < at["c"].x
    assert at["a"].y == at["b"].y == at["c"].y


def test_edges_that_need_not_cross_do_not() -> None:
    found = layered([Node(n, n) for n in ("a", "b", "y", "x")], [("a", "x"), ("b", "y")])
    at = {p.node.id: p.y for p in found.nodes}
    assert (at["a"] < at["b"]) == (at["x"] < at["y"])


@given(graphs)
def test_no_two_nodes_overlap_and_all_are_inside(drawn: tuple[list[str], list[tuple[str, str]]]) -> None:
    names, edges = drawn
    found = layered([Node(n, f"step {n}") for n in names], edges)
    assert [p.node.id for p in found.nodes] == names
    for a, b in combinations(found.nodes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, (a, b)
    for p in found.nodes:
        assert p.x >= 0
        assert p.y >= 0
        assert p.x + p.width <= found.width
        assert p.y + p.height <= found.height + 1e-6


@given(graphs)
def test_edges_go_forward_unless_they_close_a_cycle(drawn: tuple[list[str], list[tuple[str, str]]]) -> None:
    names, edges = drawn
    forward = [(a, b) for a, b in edges if int(a) < int(b)]
    found = layered([Node(n, n) for n in names], forward)
    assert all(line[0][0] < line[-1][0] for line in found.edges)
    assert len(found.edges) == len({(a, b) for a, b in forward if a in names and b in names})


def test_a_graph_of_hundreds_is_laid_out_quickly_and_a_cycle_is_no_trap() -> None:
    nodes = [Node(str(n), f"step {n}") for n in range(400)]
    edges = [(str(n), str(m)) for n in range(400) for m in (n + 1, n + 7) if m < 400]
    found = layered(nodes, [*edges, ("399", "0")])
    assert len(found.nodes) == 400
