"""Our viewer in a browser without a screen."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
from collections.abc import Iterator

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from backup_scp.web.viewer.viewer_files import BUILT
from tests.processes import peer_missing
from tests.system.viewer import SCREENSHOTS

_FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_TIMEOUT_MS = 60_000
# The pixels of the first pane's canvases, put together as the screen shows them.
_LOOK = """() => {
    const pane = document.querySelector('.pane'), picture = pane.querySelector('.screen canvas')
    const whole = document.createElement('canvas')
    ;[whole.width, whole.height] = [picture.width, picture.height]
    const context = whole.getContext('2d')
    context.fillRect(0, 0, whole.width, whole.height)
    context.drawImage(picture, 0, 0)
    context.drawImage(pane.querySelector('.overlay'), 0, 0)
    return whole.toDataURL('image/png').split(',')[1]
}"""


class OwnViewer:
    """A browser with our viewer in it.

    Attributes
    ----------
    page
        For what this class has no method.
    errors
        What the browser's console and the node complained of.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self._address = address.removesuffix("/dicom-web")
        page.set_default_timeout(_TIMEOUT_MS)
        page.on("console", self._keep_message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._keep_status)

    def _keep_message(self, message) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _keep_status(self, response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.url}: {response.status}")

    def visit(self, *studies: str, **parameters: str) -> None:
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        self.page.goto(f"{self._address}/viewer/?StudyInstanceUIDs={','.join(studies)}{more}")

    def open(self, *studies: str, **parameters: str) -> None:
        """Go to the page, and wait for the first image."""
        self.visit(*studies, **parameters)
        self.wait_painted()

    def wait_painted(self, pane: int = 0) -> None:
        self.page.locator(".pane").nth(pane).and_(self.page.locator(".painted")).wait_for()

    def run(self, command: str) -> None:
        self.page.locator(f"[data-command={command}]").click()

    def show_series(self, number: int) -> None:
        """Show a series in the active pane, and wait for its image."""
        self.page.locator("[data-series]").nth(number).click()
        self.wait_painted()

    def pixels(self) -> np.ndarray:
        """Return what the first pane shows: rows, columns, RGB."""
        picture = Image.open(io.BytesIO(base64.b64decode(self.page.evaluate(_LOOK))))
        return np.asarray(picture.convert("RGB")).astype(int)

    def image(self, rows: int, columns: int) -> np.ndarray:
        """Return the pixels of the image in the middle, which is shown 1:1 and fits."""
        shown = self.pixels()
        top, left = (shown.shape[0] - rows) // 2, (shown.shape[1] - columns) // 2
        return shown[top : top + rows, left : left + columns]

    def keep_screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"viewer {name}.png")


@contextlib.contextmanager
def own_viewer(address: str, width: int = 1200, height: int = 820) -> Iterator[OwnViewer]:
    """Start the browser for the viewer of a node."""
    if not (BUILT / "index.html").is_file():
        peer_missing("the viewer's page", "viewer-page")
    chromium = shutil.which("chromium")
    if chromium is None:
        peer_missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            yield OwnViewer(browser.new_page(viewport={"width": width, "height": height}, locale="en-US"), address)
        finally:
            browser.close()
