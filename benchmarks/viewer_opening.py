"""Measure how long a viewer takes from the click to a painted DR image: ours and OHIF, in turns, at the same node.

    make viewer
    python -m benchmarks.viewer_opening --rounds 5

The browser is Chromium without a graphics card.  OHIF is in its list of studies when the click comes, ours follows a
link to its page: its files are in the browser's cache (`warm`), or nothing is (`cold`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import images
from benchmarks.load import store
from benchmarks.nodes import Place
from benchmarks.table import Table
from benchmarks.web import WebBackupSCP
from tests.ohif import OhifServer

_FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
_LIMIT_MS = 60_000
# Waits until a canvas shows an image: many grey levels on a line through its middle.
_PAINTED = """async (selector) => {
    for (;;) {
        const canvas = document.querySelector(selector)
        if (canvas?.width > 300) {
            const {width, height} = canvas
            const line = canvas.getContext('2d').getImageData(0, Math.floor(height / 2), width, 1).data
            const levels = new Set()
            for (let at = 0; at < line.length; at += 4) levels.add(line[at])
            if (levels.size > 8) return
        }
        await new Promise(requestAnimationFrame)
    }
}"""
# When what the first picture needs was there, in milliseconds from the navigation on.
_PHASES = """() => {
    const [page] = performance.getEntriesByType('navigation')
    const ended = end => performance.getEntriesByType('resource').find(each => end.test(each.name))?.responseEnd
    return {
        'page': page.responseEnd,
        'script': ended(/assets\\/index.*js$/),
        'thumbnail': ended(/\\/thumbnail$/),
        'metadata': ended(/\\/metadata$/),
        'pixels': ended(/\\/frames\\/1$/),
        'painted': performance.now(),
    }
}"""
_OURS, _THEIRS = "ours", "OHIF"


class CorsNode(WebBackupSCP):
    """A node that lets OHIF's page call.

    Parameters
    ----------
    origin
        Where OHIF's page is.
    """

    def __init__(self, place: Place, origin: str) -> None:
        super().__init__(place)
        self._origin = origin

    def environment(self) -> dict[str, str]:
        """Give its settings."""
        return super().environment() | {"BACKUP_SCP_WEB__CORS": json.dumps([self._origin])}


def page_of(browser: Browser) -> Page:
    """Open an empty page with a cache of its own."""
    page = browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-US").new_page()
    page.set_default_timeout(_LIMIT_MS)
    page.add_init_script(_NO_TOUR)
    return page


def ours(page: Page, base: str, study: str) -> tuple[float, dict[str, float]]:
    """Return the milliseconds from following a link to the painted image, and when its phases ended."""
    page.goto(f"{base}/dicom-web/studies?limit=1")  # a page of the same origin
    began = time.perf_counter()
    page.goto(f"{base}/viewer/?StudyInstanceUIDs={study}", wait_until="commit")
    page.evaluate(_PAINTED, "canvas.quick, .painted .screen canvas")
    took = (time.perf_counter() - began) * 1000
    return took, {name: at for name, at in page.evaluate(_PHASES).items() if at is not None}


def theirs(page: Page, server: OhifServer, study: str) -> float:
    """Return the milliseconds from the click in OHIF's list to the painted image."""
    page.goto(f"{server.origin}/?studyInstanceUid={study}")
    row = page.locator("tbody tr", has_text="2024").first
    row.wait_for()
    began = time.perf_counter()
    row.dblclick()
    page.wait_for_selector("canvas.cornerstone-canvas", state="attached")
    page.evaluate(_PAINTED, "canvas.cornerstone-canvas")
    return (time.perf_counter() - began) * 1000


def measure(folder: Path, rounds: int) -> str:
    """Fill a node, open a study in both; return the table."""
    table = Table([_OURS, _THEIRS], compared=(_OURS, _THEIRS))
    with OhifServer().running() as server, sync_playwright() as playwright:
        node = CorsNode(Place(folder / "node"), server.origin)
        node.start()
        try:
            shots = images.new(images.DR, 2 * 2 * (rounds + 1))
            store(node.address, shots)
            studies = sorted({shot.study for shot in shots})
            base = f"http://127.0.0.1:{node.web_port}"
            server.show(f"{base}/dicom-web")
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
            pages = page_of(browser), page_of(browser)
            for number, study in enumerate(studies):
                warm = "click to painted DR, warm, ms" if number else "click to painted DR, first, ms"
                took, phases = ours(pages[0], base, study)
                table.add(warm, _OURS, took)
                table.add(warm, _THEIRS, theirs(pages[1], server, study))
                if number:
                    fresh = page_of(browser)
                    table.add("click to painted DR, cold, ms", _OURS, ours(fresh, base, study)[0])
                    fresh.context.close()
                    for name, at in phases.items():
                        table.add(f"of that, warm: {name} at, ms", _OURS, at)
            browser.close()
        finally:
            node.end()
    return table.markdown("a DR image of 15 MB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder), arguments.rounds))


if __name__ == "__main__":
    main()
