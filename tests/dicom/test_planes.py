"""Overlays and shutters on rendered images: pydicom's overlay_array is the second opinion (PS3.3 C.9.2, C.7.6.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from backup_scp.errors import InstanceRefused
from tests.dicom.test_rendering import CHANCE, grey, rendered
from tests.samples import encode, replace, secondary_capture


def with_overlay(ds: Dataset, bits: np.ndarray, group: int = 0x6000, origin=(1, 1), **more) -> Dataset:
    """Add an overlay: rows and columns, or frames of them."""
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    elements = {
        0x10: ("US", bits.shape[-2]),
        0x11: ("US", bits.shape[-1]),
        0x40: ("CS", "G"),
        0x50: ("SS", list(origin)),
    }
    elements |= {0x100: ("US", 1), 0x102: ("US", 0), 0x3000: ("OW", packed + b"\0" * (len(packed) % 2))}
    if bits.ndim == 3:
        elements |= {0x15: ("IS", str(len(bits))), 0x51: ("US", more["first"])}
    for element, (vr, value) in elements.items():
        ds.add_new(group << 16 | element, vr, value)
    return ds


def random_bits(*shape: int) -> np.ndarray:
    return CHANCE.integers(0, 2, shape, dtype="u1")


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_overlays_are_white_on_what_is_shown_without_them(interpretation):
    ds = grey(PhotometricInterpretation=interpretation)
    plain = rendered(ds)
    with_overlay(ds, random_bits(40, 30))
    with_overlay(ds, random_bits(7, 5), 0x601E, (3, 4))
    read = encode(ds).dataset()
    expected = np.where(read.overlay_array(0x6000), 255, plain)
    expected[2:9, 3:8][read.overlay_array(0x601E) == 1] = 255
    assert np.array_equal(rendered(ds), expected)


@pytest.mark.parametrize("origin", [(-2, -3), (35, 28), (-2, 28), (50, 50)])
def test_of_an_overlay_that_goes_beyond_the_image_the_rest_is_shown(origin):
    ds = grey()
    plain, bits = rendered(ds), random_bits(10, 12)
    with_overlay(ds, bits, origin=origin)
    expected = plain.copy()
    for y, x in np.argwhere(bits):
        row, column = y + origin[0] - 1, x + origin[1] - 1
        if 0 <= row < 40 and 0 <= column < 30:
            expected[row, column] = 255
    assert np.array_equal(rendered(ds), expected)


def test_an_overlay_in_the_words_of_the_pixels_is_shown_and_its_bit_is_not_a_value():
    ds = grey()
    plain = rendered(ds)
    words, bits = np.frombuffer(ds.PixelData, "<u2"), random_bits(1200)
    ds.add_new("PixelData", "OW", (words | bits.astype("<u2") << 13).tobytes())
    for element, vr, value in ((0x10, "US", 40), (0x11, "US", 30), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
        ds.add_new(0x60020000 | element, vr, value)
    ds.add_new(0x60020100, "US", 16)
    ds.add_new(0x60020102, "US", 13)
    assert np.array_equal(rendered(ds), np.where(bits.reshape(40, 30), 255, plain))
    ds[0x60020102].value = 11
    with pytest.raises(InstanceRefused, match="bits of the pixels themselves"):
        rendered(ds)


@pytest.mark.parametrize(("frame", "first", "shown"), [(1, 1, 0), (3, 1, 2), (2, 2, 0), (1, 2, None), (5, 1, None)])
def test_each_frame_has_the_overlay_of_its_own(frame, first, shown):
    ds = grey()
    plain, bits = rendered(ds), random_bits(3, 39, 29)  # their bits do not begin at bytes
    with_overlay(ds, bits, first=first)
    expected = plain.copy()
    if shown is not None:
        expected[:39, :29][bits[shown] == 1] = 255
    assert np.array_equal(rendered(ds, frame=frame), expected)


def test_an_overlay_lies_on_colours_and_on_a_smaller_image():
    ds = secondary_capture()
    values = CHANCE.integers(0, 200, (32, 32, 3), dtype="u1")
    replace(ds, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, PixelData=values.tobytes())
    bits = random_bits(32, 32)
    with_overlay(ds, bits)
    expected = np.where(bits[..., None], 255, values)
    assert np.array_equal(rendered(ds), expected)
    ours = rendered(ds, viewport=(4, 4), size=(4, 4))
    assert np.array_equal(ours, np.rint(expected.reshape(4, 8, 4, 8, 3).mean((1, 3))))


def test_an_overlay_that_is_not_whole_is_refused():
    ds = with_overlay(grey(), random_bits(40, 30))
    ds[0x60003000].value = ds[0x60003000].value[:100]
    with pytest.raises(InstanceRefused, match="6000 is not whole"):
        rendered(ds)


ROWS, COLUMNS = np.mgrid[1:41, 1:31]
SHUTTERS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "RECTANGULAR": (
        {
            "ShutterLeftVerticalEdge": 3,
            "ShutterRightVerticalEdge": 20,
            "ShutterUpperHorizontalEdge": 5,
            "ShutterLowerHorizontalEdge": 33,
        },
        (COLUMNS >= 3) & (COLUMNS <= 20) & (ROWS >= 5) & (ROWS <= 33),
    ),
    "CIRCULAR": (
        {"CenterOfCircularShutter": [20, 12], "RadiusOfCircularShutter": 9},
        np.hypot(ROWS - 20, COLUMNS - 12) <= 9,
    ),
    "POLYGONAL": (
        {"VerticesOfThePolygonalShutter": [1, 1, 40, 1, 1, 31]},  # a triangle, by row and column
        (ROWS - 1) / 39 + (COLUMNS - 1) / 30 < 1,
    ),
}


@pytest.mark.parametrize("shape", SHUTTERS)
def test_outside_of_a_shutter_it_is_black(shape):
    ds = grey()
    plain = rendered(ds)
    elements, shown = SHUTTERS[shape]
    replace(ds, ShutterShape=shape, **elements)
    assert np.array_equal(rendered(ds), np.where(shown, plain, 0))
    ds.ShutterPresentationValue = 0xFFFF
    assert np.array_equal(rendered(ds), np.where(shown, plain, 255))


def test_several_shutters_hide_what_one_of_them_hides():
    ds = grey()
    plain = rendered(ds)
    for elements, _ in SHUTTERS.values():
        replace(ds, **elements)
    ds.ShutterShape = list(SHUTTERS)
    shown = np.all([shown for _, shown in SHUTTERS.values()], axis=0)
    assert np.array_equal(rendered(ds), np.where(shown, plain, 0))


@pytest.mark.parametrize(
    "elements",
    [
        {"ShutterShape": "HEART"},
        {"ShutterShape": "CIRCULAR"},
        {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": 3},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 2, 2]},
    ],
)
def test_a_shutter_that_cannot_be_read_is_refused(elements):
    with pytest.raises(InstanceRefused, match="shutter"):
        rendered(replace(grey(), **elements))
