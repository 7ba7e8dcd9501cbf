"""Take the pictures of the console in docs/images again, from a console that runs:

    headway up                                      # in a project where things have happened, such as .demo/trips
    python docs/screenshots.py http://127.0.0.1:8000

Needs what the tests of the console need: Playwright and a Chromium (`HEADWAY_CHROMIUM` names one).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH, HEIGHT, LARGEST = 1280, 860, 150_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the console answers")
    parser.add_argument("--model", default="trip_duration")
    parser.add_argument("--view", default="zone_traffic")
    parser.add_argument("--run", default=None, help="the run to show (default: the newest)")
    parser.add_argument("--part", default="performance", help="the heading of the monitoring page to begin at")
    parser.add_argument("--to", type=Path, default=IMAGES)
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        path = os.environ.get("HEADWAY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        for scheme in ("light", "dark"):
            page = browser.new_page(
                base_url=asked.url, color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB",
                timezone_id="UTC", bypass_csp=True,
            )  # fmt: skip
            for name, where in pages(page, asked).items():
                page.goto(where, wait_until="load")
                take(page, asked.to / f"console-{name}-{scheme}.png")
        browser.close()


def pages(page: Page, asked: argparse.Namespace) -> dict[str, str]:
    """The pictures by name, each with the address of its page."""
    run = asked.run
    if run is None:
        page.goto("/runs")
        run = page.locator("#runs tbody th a").first.inner_text()
    return {
        "production": "/",
        "model": f"/models/{asked.model}",
        "run": f"/runs/{run}",
        "monitoring": f"/monitoring/{asked.model}#{asked.part}",
        "feature": f"/features/{asked.view}",
    }


def take(page: Page, file: Path) -> None:
    """What one sees first of a page, in as many colours as stay below the limit."""
    page.wait_for_function("document.fonts.status === 'loaded' && !document.querySelector('.htmx-request')")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    for colours in (256, 128, 64, 32):
        body = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(body, "PNG", optimize=True)
        if body.tell() < LARGEST:
            break
    else:
        raise SystemExit(f"{file.name} is {body.tell()} bytes in {colours} colours; the limit is {LARGEST}")
    file.write_bytes(body.getvalue())
    print(f"{file.name}: {body.tell() / 1e3:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
