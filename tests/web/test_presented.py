"""WADO-RS: images as a presentation state says (PS3.18 10.4.1.1.4, 9.5.2.3)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

from tests.samples import dx, encode, presentation_state, replace, secondary_capture, with_pixels
from tests.web.multipart import parts_of
from tests.web.test_wado_instances import get, path_of, put_all
from tests.web.test_wado_rendered import image_of

PARTS = 'multipart/related; type="image/png"'


def presented(*images: Dataset, frames: str | None = None, **elements: object) -> Dataset:
    """Return a presentation state that shows 10 x 5 pixels of each image, inverted."""
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [3, 4], [12, 8]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    state = presentation_state(images[0])
    listed = [presentation_state(ds).ReferencedSeriesSequence[0] for ds in images]
    replace(listed[0].ReferencedImageSequence[0], ReferencedFrameNumber=frames)
    elements = {"DisplayedAreaSelectionSequence": Sequence([area]), "PresentationLUTShape": "INVERSE"} | elements
    return replace(state, ReferencedSeriesSequence=Sequence(listed), **elements)


def expected(ds: Dataset, frame: int = 0) -> np.ndarray:
    frames = np.frombuffer(ds.PixelData, "<u2").reshape(-1, ds.Rows, ds.Columns)
    return np.rint(255 - frames[frame, 3:8, 2:12] / 4095 * 255)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_presentation_state_gives_its_image(stored, web, syntax):
    ds = dx()
    state = presented(ds)
    put_all(stored, [ds])
    put_all(stored, [state], syntax)
    answer = get(web, f"{path_of(state)}/rendered", "image/png")
    assert np.abs(image_of(answer) - expected(ds)).max() <= 1
    assert image_of(get(web, f"{path_of(state)}/rendered?viewport=20,20", "image/png")).shape == (10, 20)
    tag = answer.headers["etag"]
    assert get(web, f"{path_of(state)}/rendered", "image/png", **{"If-None-Match": tag}).status_code == 304
    assert get(web, f"{path_of(state)}/rendered", "image/jpeg").content[:2] == b"\xff\xd8"


def test_several_images_come_as_parts_in_its_order(stored, web):
    images = [dx(), with_pixels(secondary_capture(), frames=3, bits=16)]
    state = presented(*reversed(images), frames="3\\1")
    put_all(stored, [*images, state])
    parts = parts_of(get(web, f"{path_of(state)}/rendered", PARTS))
    shown = [np.array(Image.open(io.BytesIO(part.content))) for part in parts]
    wanted = [expected(images[1], 2), expected(images[1], 0), expected(images[0])]
    assert len(shown) == 3
    assert all(np.abs(ours - theirs).max() <= 1 for ours, theirs in zip(shown, wanted, strict=True))
    assert get(web, f"{path_of(state)}/rendered", "image/png").status_code == 406


def test_one_frame_is_a_part_if_asked_so(stored, web):
    ds = with_pixels(secondary_capture(), frames=3, bits=16)
    state = presented(ds, frames="2")
    put_all(stored, [ds, state])
    (part,) = parts_of(get(web, f"{path_of(state)}/rendered", PARTS))
    assert part.content_type == "image/png"
    assert np.abs(np.array(Image.open(io.BytesIO(part.content))) - expected(ds, 1)).max() <= 1


@pytest.mark.parametrize("query", ["window=3,4", "viewport=9,9,1,1,2,2"])
def test_window_and_part_are_the_states_own(stored, web, query):
    ds = dx()
    put_all(stored, [ds, presented(ds)])
    answer = web.get(f"{path_of(presented(ds))}/rendered?{query}")
    assert answer.status_code == 400
    assert "says window and area itself" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"SOPClassUID": ColorSoftcopyPresentationStateStorage}, "Color Softcopy"),
        ({"GraphicAnnotationSequence": Sequence([Dataset()])}, "annotations"),
        ({"ReferencedSeriesSequence": None}, "names no image"),
        ({"DisplayedAreaSelectionSequence": None}, "no Displayed Area"),
    ],
)
def test_what_cannot_be_applied_is_refused(stored, web, elements, why):
    ds = dx()
    state = replace(presented(ds), **elements)
    put_all(stored, [ds, state])
    answer = web.get(f"{path_of(state)}/rendered")
    assert answer.status_code == 406
    assert why in answer.json()["detail"]


def test_its_image_may_not_be_here(stored, web):
    ds = dx()
    put_all(stored, [presented(ds)])
    answer = web.get(f"{path_of(presented(ds))}/rendered")
    assert answer.status_code == 404
    assert ds.SOPInstanceUID in answer.json()["detail"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_state_or_image_is_not_shown(stored, web, place):
    instances = [dx(), presented(dx())]
    locations = [stored.put(encode(each)).location for each in instances]
    stored.flip(locations[place])
    answer = web.get(f"{path_of(instances[1])}/rendered")
    assert answer.status_code == 500
    assert instances[place].SOPInstanceUID in answer.json()["detail"]
