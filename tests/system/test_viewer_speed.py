"""What our viewer asks for, and when: the first image at once, the next one ahead, codecs only when needed."""

from __future__ import annotations

from functools import partial

import pytest

from tests.processes import wait_until
from tests.samples import ct_series, dx, replace
from tests.system.own_viewer import OwnViewer, own_viewer
from tests.system.test_viewer import ramp
from tests.system.test_viewer_stories import store
from tests.system.viewer_cases import compressed
from tests.system.web import web_address, web_node

pytestmark = pytest.mark.timeout(300)
JPEG_LS = "1.2.840.10008.1.2.4.80"


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


class Requests:
    """The paths that a page asks for, in their order, and those that have come."""

    def __init__(self, viewer: OwnViewer) -> None:
        self.asked: list[str] = []
        self.came: list[str] = []
        self._page = viewer.page
        viewer.page.on("request", lambda request: self.asked.append(path_of(request.url)))
        viewer.page.on("requestfinished", lambda request: self.came.append(path_of(request.url)))

    def numbers_of(self, end: str) -> list[int]:
        self._page.evaluate("null")  # Playwright tells of requests while it is asked something
        return [number for number, path in enumerate(self.asked) if path.endswith(end)]

    def has_come(self, end: str) -> bool:
        self._page.evaluate("null")
        return any(path.endswith(end) for path in self.came)


def path_of(url: str) -> str:
    return url.partition("?")[0]


def frame_of(ds) -> str:
    return f"{ds.SOPInstanceUID}/frames/1"


def test_the_first_image_is_asked_for_before_anything_is_known_of_the_study(node):
    first, second = (ramp(dx(series=series), 300, 200) for series in "12")
    store(node, second, first)
    with own_viewer(web_address(node)) as viewer:
        requests = Requests(viewer)
        viewer.open(first.StudyInstanceUID)
        (thumbnail,) = requests.numbers_of(f"{first.SOPInstanceUID}/thumbnail")
        (script,) = (at for at, path in enumerate(requests.asked) if "/assets/engine" in path)
        (frame,) = requests.numbers_of(frame_of(first))
        (metadata,) = requests.numbers_of("/metadata")
        assert max(thumbnail, frame, metadata) < script
        assert thumbnail < metadata
        assert frame < metadata
        assert viewer.errors == []


def test_the_next_images_are_there_before_a_key_is_pressed(node):
    slices = [replace(ramp(ds, 100, 100), InstanceNumber=str(at + 1)) for at, ds in enumerate(ct_series(6, series="7"))]
    other = ramp(dx(series="8"), 300, 200)
    store(node, *slices, other)
    with own_viewer(web_address(node)) as viewer:
        requests = Requests(viewer)
        viewer.open(slices[0].StudyInstanceUID)
        for shown in range(1, 6):
            wanted = frame_of(slices[shown])
            wait_until(partial(requests.has_come, wanted), what=wanted)
            viewer.page.keyboard.press("ArrowDown")
            viewer.page.locator(".corner.bottom.left", has_text=f"Image {shown + 1} of 6").wait_for()
            assert len(requests.numbers_of(wanted)) == 1
        wait_until(partial(requests.has_come, frame_of(other)), what="the next series")
        viewer.show_series(1)
        viewer.page.locator(".corner.bottom.left", has_text="Image 1 of 1").wait_for()
        assert len(requests.numbers_of(frame_of(other))) == 1
        assert viewer.errors == []


def test_codecs_come_when_an_image_needs_them(node):
    raw, packed = (ramp(dx(series=series), 300, 200) for series in "12")
    store(node, raw)
    assert {answer.status for answer in node.send([compressed(packed, JPEG_LS)])} == {0}
    with own_viewer(web_address(node)) as viewer:
        requests = Requests(viewer)
        viewer.page.route(f"**/{frame_of(packed)}", lambda route: route.abort())  # what is fetched ahead
        viewer.open(raw.StudyInstanceUID)
        wait_until(lambda: requests.numbers_of(frame_of(packed)), what="the next series, ahead")
        assert not [path for path in requests.asked if path.endswith(".wasm")]
        viewer.page.unroute_all()
        viewer.show_series(1)
        assert [path for path in requests.asked if path.endswith(".wasm")]
