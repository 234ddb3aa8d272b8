"""What somebody does with our viewer, step by step, in a browser."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.axe import FILE as AXE
from tests.processes import peer_missing, wait_until
from tests.samples import ct_series, dx, encapsulated_pdf, encode, replace, uid, with_pixels
from tests.system.own_viewer import OwnViewer, own_viewer
from tests.system.test_viewer import expected, ramp
from tests.system.web import web_address, web_node

pytestmark = pytest.mark.timeout(300)
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


def store(node, *datasets):
    assert {answer.status for answer in node.send(map(encode, datasets))} == {0}


def corner(viewer: OwnViewer, place: str, pane: int = 0) -> str:
    return viewer.page.locator(".pane").nth(pane).locator(f".corner.{place}").inner_text()


def drag(viewer: OwnViewer, *points: tuple[float, float]) -> None:
    """Press at a point of the first pane's middle, move through the others, let go."""
    box = viewer.page.locator(".pane").first.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = viewer.page.mouse
    mouse.move(middle[0] + points[0][0], middle[1] + points[0][1])
    mouse.down()
    for x, y in points[1:]:
        mouse.move(middle[0] + x, middle[1] + y, steps=5)
    mouse.up()


def shows(viewer: OwnViewer, image: np.ndarray, most: float = 1) -> bool:
    seen = viewer.image(*image.shape)
    return seen.shape[:2] == image.shape and np.abs(seen[..., 0] - image).max() <= most


def is_written(viewer: OwnViewer, words: str) -> bool:
    return words in viewer.page.locator(".pane svg").first.inner_html()


@pytest.mark.parametrize("rendering", ["cpu", "gpu"])
def test_turning_and_inverting(node, rendering):
    ds = ramp(dx(SeriesDescription="DX"), 300, 200)
    store(node, ds)
    image = expected(ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID, rendering=rendering)
        viewer.run("actual")
        for key, change in (
            ("i", lambda shown: 255 - shown),
            ("]", lambda shown: np.rot90(shown, -1)),
            ("h", lambda shown: shown[:, ::-1]),
            ("[", np.rot90),
            ("v", lambda shown: shown[::-1]),
        ):
            image = change(image)
            viewer.page.keyboard.press(key)
            viewer.page.keyboard.press("1")
            wait_until(partial(shows, viewer, image), 30, what=f"{key} on {rendering}")
        viewer.keep_screenshot(f"turned {rendering}")
        viewer.run("reset")
        viewer.run("actual")
        wait_until(lambda: shows(viewer, expected(ds)), 30, what="as it came")
        assert viewer.errors == []


def test_lengths_say_what_they_are_measured_by(node):
    spacing = {
        "patient": {"PixelSpacing": ["0.5", "0.5"]},
        "detector": {"ImagerPixelSpacing": ["0.2", "0.2"]},
        "none": {},
    }
    for number, (name, elements) in enumerate(spacing.items()):
        store(
            node, ramp(dx(series=str(number), SeriesDescription=name, SeriesNumber=str(number), **elements), 600, 500)
        )
    study = dx().StudyInstanceUID
    with own_viewer(web_address(node)) as viewer:
        viewer.open(study)
        for number, words in enumerate(("100.0 mm", "40.0 mm at the detector", "200 pixels")):
            viewer.show_series(number)
            viewer.run("actual")
            viewer.run("length")
            drag(viewer, (-100, 50), (0, 50), (100, 50))
            wait_until(partial(is_written, viewer, words), 30, what=words)
            viewer.keep_screenshot(f"length {number}")
            assert ("at the detector" in corner(viewer, "bottom.left")) == (number == 1)
            assert ("in pixels" in corner(viewer, "bottom.left")) == (number == 2)
        assert viewer.errors == []


def test_scrolling_playing_and_marking(node):
    slices = [replace(ramp(ds, 100, 100), InstanceNumber=str(at + 1)) for at, ds in enumerate(ct_series(5, series="7"))]
    store(node, *slices)
    with own_viewer(web_address(node)) as viewer:
        asked: list[str] = []
        viewer.page.on("request", lambda request: asked.append(request.url))
        viewer.open(slices[0].StudyInstanceUID)
        assert "Image 1 of 5" in corner(viewer, "bottom.left")
        ahead = f"{slices[1].SOPInstanceUID}/frames/1"
        wait_until(lambda: any(url.endswith(ahead) for url in asked), what="the next image, before it is asked for")
        viewer.page.keyboard.press("ArrowDown")
        wait_until(lambda: "Image 2 of 5" in corner(viewer, "bottom.left"), what="the next image")
        viewer.page.locator(".pane").hover()
        viewer.page.mouse.wheel(0, 100)
        wait_until(lambda: "Image 3 of 5" in corner(viewer, "bottom.left"), what="the one after it")
        viewer.page.keyboard.press("k")
        viewer.page.get_by_text("Image 3 of 5").nth(1).wait_for()
        viewer.page.keyboard.press("c")
        wait_until(lambda: "Image 1 of 5" in corner(viewer, "bottom.left"), what="a film, which begins again")
        viewer.page.keyboard.press("c")
        viewer.page.reload()
        viewer.wait_painted()
        viewer.page.locator(".series button", has_text="Image 3 of 5").click()
        wait_until(lambda: "Image 3 of 5" in corner(viewer, "bottom.left"), what="the key image")
        viewer.keep_screenshot("key images")
        assert viewer.errors == []


def test_frames_of_one_image(node):
    ds = with_pixels(dx(), 64, 64, frames=4)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        assert "Image 1 of 4" in corner(viewer, "bottom.left")
        viewer.page.keyboard.press("ArrowDown")
        wait_until(lambda: "Image 2 of 4" in corner(viewer, "bottom.left"), what="the next frame")
        assert viewer.errors == []


def test_contrast_by_hand_and_by_region(node):
    ds = ramp(dx(), 600, 500)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        assert "Window 2600 at 1800" in corner(viewer, "bottom.right")
        drag(viewer, (0, 0), (60, 40))
        wait_until(lambda: "Window 2600 at 1800" not in corner(viewer, "bottom.right"), what="another window")
        by_hand = corner(viewer, "bottom.right")
        viewer.run("region")
        drag(viewer, (20, 100), (120, 180))
        wait_until(lambda: corner(viewer, "bottom.right") != by_hand, what="the window of a region")
        viewer.run("reset")
        wait_until(lambda: "Window 2600 at 1800" in corner(viewer, "bottom.right"), what="the image's own window")
        assert viewer.errors == []


def test_two_studies_stand_side_by_side_in_time(node):
    old, new = (ramp(dx(study=day, SeriesDescription=day, StudyDate=day), 300, 200) for day in ("20230101", "20240101"))
    store(node, old, new)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(new.StudyInstanceUID, old.StudyInstanceUID)
        viewer.wait_painted(1)
        assert "2023-01-01" in corner(viewer, "top.right", 0)
        assert "2024-01-01" in corner(viewer, "top.right", 1)
        viewer.keep_screenshot("two studies")
        assert viewer.errors == []


def test_markup_is_text_and_other_documents_are_named(node):
    names = {"PatientName": "<b>Name</b>", "StudyDescription": MARKUP, "SeriesDescription": MARKUP}
    ds = ramp(dx(**names), 300, 200)
    pdf = replace(encapsulated_pdf(), StudyInstanceUID=ds.StudyInstanceUID, DocumentTitle=MARKUP)
    store(node, ds, pdf)
    with own_viewer(web_address(node), 390, 760) as viewer:
        alerts = []
        viewer.page.on("dialog", lambda dialog: alerts.append(dialog.message))
        viewer.open(ds.StudyInstanceUID)
        viewer.page.locator(".series a", has_text=MARKUP).wait_for()
        assert "<b>Name</b>" in corner(viewer, "top.left")
        assert MARKUP in corner(viewer, "top.right")
        viewer.keep_screenshot("phone")
        assert alerts == []
        assert viewer.errors == []


def test_what_cannot_be_shown_is_said(node):
    with own_viewer(web_address(node)) as viewer:
        viewer.visit(uid("no study"))
        viewer.page.get_by_text("could not be shown").wait_for()
        viewer.visit()
        viewer.page.get_by_text("No study is named").wait_for()


def test_an_image_that_is_cut_short_says_so(node):
    ds = ramp(dx(), 300, 200)
    store(node, replace(ds, PixelData=ds.PixelData[:6000]))
    with own_viewer(web_address(node)) as viewer:
        viewer.visit(ds.StudyInstanceUID)
        viewer.page.locator(".status", has_text="could not be shown").wait_for()
        viewer.keep_screenshot("cut short")


def test_axe_finds_nothing_serious(node):
    if not AXE.is_file():
        peer_missing("axe-core", "viewer")
    ds = ramp(dx(), 300, 200)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        viewer.page.evaluate(AXE.read_text())
        for name, key in (("page", ""), ("keys", "?")):
            if key:
                viewer.page.keyboard.press(key)
            viewer.keep_screenshot(name)
            found = viewer.page.evaluate("axe.run().then(found => found.violations)")
            serious = [one["id"] for one in found if one["impact"] in {"serious", "critical"}]
            assert serious == [], name


def test_the_magnifier_enlarges_what_is_below_it(node):
    ds = ramp(dx(), 600, 500)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        viewer.run("actual")
        viewer.run("magnify")
        viewer.page.locator(".pane").hover()
        viewer.page.mouse.down()
        viewer.page.locator(".lens").wait_for()
        viewer.keep_screenshot("magnifier")
        line = viewer.page.evaluate(
            "Array.from(document.querySelector('.lens').getContext('2d').getImageData(0, 160, 320, 1).data)"
        )
        image = expected(ds)[300, 250 - 62 : 250 + 62]
        assert abs(line[4 * 5] - image[0]) <= 4
        assert abs(line[4 * 314] - image[-1]) <= 4
        viewer.page.mouse.up()
        viewer.page.locator(".lens").wait_for(state="detached")
        assert viewer.errors == []


def test_an_angle_is_a_line_and_a_click(node):
    ds = ramp(dx(), 600, 500)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        viewer.run("actual")
        viewer.run("angle")
        drag(viewer, (-100, 0), (0, 0))
        drag(viewer, (0, 100), (0, 100))
        viewer.keep_screenshot("angle")
        wait_until(partial(is_written, viewer, "90.0°"), 15, what="a right angle")
        assert viewer.errors == []


@pytest.mark.parametrize("rendering", ["cpu", "gpu"])
def test_moving_and_enlarging(node, rendering):
    ds = ramp(dx(), 300, 200)
    store(node, ds)
    image = expected(ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID, rendering=rendering)
        whole = corner(viewer, "bottom.right")
        viewer.run("actual")
        wait_until(lambda: shows(viewer, image), 30, what="1:1")
        viewer.run("pan")
        drag(viewer, (0, 0), (60, -40))

        def is_moved() -> bool:
            seen = viewer.pixels()[..., 0]
            top, left = (seen.shape[0] - 300) // 2 - 40, (seen.shape[1] - 200) // 2 + 60
            return bool(np.abs(seen[top : top + 300, left : left + 200] - image).max() <= 1)

        wait_until(is_moved, 30, what="the image, moved")
        viewer.run("zoom")
        drag(viewer, (0, 0), (0, 60))
        wait_until(lambda: "Zoom 100 %" not in corner(viewer, "bottom.right"), what="another size")
        viewer.page.keyboard.press("f")
        wait_until(lambda: corner(viewer, "bottom.right") == whole, what="the whole image")
        assert viewer.errors == []


def test_windows_for_ct(node):
    ds = ramp(ct_series(1, series="7")[0], 300, 200)
    replace(ds, RescaleSlope="1", RescaleIntercept="-1024")
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        viewer.run("actual")
        for name, center, width in (("CT lung", -600, 1500), ("CT bone", 400, 1800)):
            viewer.page.locator("select").select_option(label=name)
            wanted = expected(replace(ds, WindowCenter=str(center), WindowWidth=str(width)))
            wait_until(partial(shows, viewer, wanted), 30, what=name)
            assert f"Window {width} at {center}" in corner(viewer, "bottom.right")
        assert viewer.errors == []
