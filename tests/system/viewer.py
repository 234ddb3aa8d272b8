"""OHIF in a browser without a screen: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.ohif import FILES, OhifServer
from tests.processes import ROOT, peer_missing

SCREENSHOTS = ROOT / "build" / "screenshots"

_WITHOUT_A_GRAPHICS_CARD = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
# Red at points of the first viewport's canvas, which the image fills as far as it can, in the middle.
_LOOK = """([rows, columns, ys, xs]) => {
    const canvas = document.querySelector('canvas.cornerstone-canvas')
    if (!canvas?.width || !canvas.height) return null
    const {width, height} = canvas, scale = Math.min(height / rows, width / columns)
    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height)
    const at = (place, size, whole) => Math.floor((place + 0.5 - size / 2) * scale + whole / 2)
    return ys.map(y => xs.map(x => data[4 * (at(y, rows, height) * width + at(x, columns, width))]))
}"""
_TIMEOUT_MS = 60_000


class Viewer:
    """A browser with OHIF in it.

    Attributes
    ----------
    page
        For what this class has no method.
    errors
        Answers that a viewer cannot use: the method, the address and the status.
    """

    def __init__(self, page: Page, server: OhifServer) -> None:
        self.page = page
        self.errors: list[str] = []
        self._server = server
        page.set_default_timeout(_TIMEOUT_MS)
        page.add_init_script(_NO_TOUR)
        page.on("response", self._keep_errors)

    def _keep_errors(self, response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.request.method} {response.url}: {response.status}")

    def list_studies(self) -> None:
        self.page.goto(self._server.origin)

    def show_series(self, number: int) -> None:
        """Show a series of the study that is open in the first viewport."""
        self.page.locator(f"[data-cy=study-browser-thumbnail][data-series='{number}']").dblclick()

    def open_study(self, study_instance_uid: str) -> None:
        self.page.goto(f"{self._server.origin}/viewer?StudyInstanceUIDs={study_instance_uid}")

    def next_image(self) -> None:
        """Show the next frame or image of the first viewport."""
        self.page.locator("canvas.cornerstone-canvas").first.click()
        self.page.keyboard.press("ArrowDown")

    def shown_document(self) -> bytes:
        """Return the document that it shows, from where the page has it."""
        shown = self.page.locator("object[type='application/pdf']")
        content = shown.evaluate("async e => [...new Uint8Array(await (await fetch(e.data)).arrayBuffer())]")
        return bytes(content)

    def difference(self, image: np.ndarray) -> float:
        """Return how far the first viewport is from an image, in grey levels, at nine of ten points of a grid."""
        rows, columns = image.shape
        y, x = (np.linspace(0.04, 0.96, 24) * np.array([[rows], [columns]])).astype(int)
        seen = self.page.evaluate(_LOOK, [rows, columns, y.tolist(), x.tolist()])
        if seen is None:
            return float("inf")
        return float(np.percentile(np.abs(np.array(seen) - image[np.ix_(y, x)]), 90))

    def is_white_on(self, name: str, place: tuple[int, int]) -> bool:
        """Keep a screenshot, and tell whether it is white at a place, from left and top."""
        self.keep_screenshot(name)
        with Image.open(SCREENSHOTS / f"{name}.png") as image:
            return image.convert("L").getpixel(place) == 255

    def keep_screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextlib.contextmanager
def ohif_server() -> Iterator[OhifServer]:
    """Serve OHIF's files; `server.show` says of which node."""
    if not FILES.is_dir():
        peer_missing("OHIF", "viewer")
    with OhifServer().running() as server:
        yield server


@contextlib.contextmanager
def viewer_of(server: OhifServer) -> Iterator[Viewer]:
    """Start the browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        peer_missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_WITHOUT_A_GRAPHICS_CARD)
        try:
            yield Viewer(browser.new_page(viewport={"width": 1200, "height": 700}, locale="en-US"), server)
        finally:
            browser.close()
