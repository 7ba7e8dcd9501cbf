"""The examples of the page about steps."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "steps.md"


def test_the_page_runs_as_it_stands(steps):
    declared, plain = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    steps.write(flows=declared)
    done = steps.run("plan_fleet", days="2")
    assert done["forecast[country=pt,city=porto]"] == "done"
    assert done["alarm[country=ee]"] == "skipped"
    assert steps.value("report[country=ee]") == "ee: 21 trips"
    assert set(steps.run("plan_fleet", days="2").values()) == {"cached", "skipped"}
    exec(declared + plain, {"__name__": "page"})
