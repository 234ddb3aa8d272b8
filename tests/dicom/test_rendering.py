"""Rendering of pixels: pydicom's own transformations are the second opinion (PS3.4 N.2)."""

from __future__ import annotations

import io
import os
import signal
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageSequence
from pydicom.dataset import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    apply_windowing,
    convert_color_space,
)
from pydicom.sequence import Sequence

from backup_scp.dicom.data_set import find_pixels
from backup_scp.dicom.rendering import DISPLAY_TAGS, Window, display_of, render, render_process
from backup_scp.errors import InstanceRefused
from tests.samples import dx, encode, replace, secondary_capture

CHANCE = np.random.default_rng(4)


def rendered(ds: Dataset, window: Window | None = None, frame: int = 1, **order) -> np.ndarray:
    """Render as PNG, and decode that."""
    sample = encode(ds)
    found = find_pixels(io.BytesIO(sample.data_set), sample.transfer_syntax_uid, DISPLAY_TAGS)
    assert found is not None
    pixels = sample.data_set[found.position : found.position + (found.length or 0)]
    display = display_of(found.elements, [frame], window) | {"format": "png", "quality": 90} | order
    return imagecodecs.png_decode(render(display, [pixels]))


def grey(bits: int = 16, stored: int = 12, *, signed: bool = False, **elements) -> Dataset:
    ds = dx(**elements)
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    values = CHANCE.integers(low, high, (40, 30), endpoint=True)
    values[0, 0], values[0, 1] = low, high
    replace(ds, Rows=40, Columns=30, BitsAllocated=bits, BitsStored=stored, HighBit=stored - 1)
    ds.PixelRepresentation = int(signed)
    ds.add_new(
        "PixelData", "OW" if bits > 8 else "OB", values.astype(f"<{'i' if signed else 'u'}{bits // 8}").tobytes()
    )
    return ds


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype("f8") - float(low)) / (float(high) - float(low)), 0, 1) * 255)


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("bits", "stored", "signed"), [(8, 8, False), (16, 12, False), (16, 16, True), (16, 12, True), (32, 20, False)]
)
def test_without_a_window_the_range_of_the_values_is_shown(bits, stored, signed):
    ds = grey(bits, stored, signed=signed)
    pixels = encode(ds).dataset().pixel_array
    assert_close(rendered(ds), scaled(pixels, pixels.min(), pixels.max()))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_window_is_that_of_the_standard(function, signed):
    ds = grey(signed=signed, RescaleSlope="2", RescaleIntercept="-100")
    replace(ds, WindowCenter="900.5", WindowWidth="1200", VOILUTFunction=function)
    read = encode(ds).dataset()
    theirs = apply_windowing(apply_modality_lut(read.pixel_array, read), read)
    low, high = (-2048 * 2 - 100, 2047 * 2 - 100) if signed else (-100, 4095 * 2 - 100)
    assert_close(rendered(ds), scaled(theirs, low, high))


def test_the_caller_has_another_window():
    ds = grey(WindowCenter="100", WindowWidth="10")
    expected = grey_window(ds, 2000, 1000)
    assert_close(rendered(ds, Window(2000, 1000)), expected)


def grey_window(ds, center, width):
    values = encode(ds).dataset().pixel_array.astype("f8")
    return np.rint(np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)


def test_lookup_tables_are_applied():
    ds, modality, voi = grey(), Dataset(), Dataset()
    for item, bits in ((modality, 16), (voi, 12)):
        item.LUTDescriptor = [4096, 0, bits]
        table = np.sort(CHANCE.integers(0, 4095, 4096, endpoint=True)).astype("<u2")
        item.add_new("LUTData", "OW", table.tobytes())
    ds.ModalityLUTSequence, ds.VOILUTSequence = Sequence([modality]), Sequence([voi])
    read = encode(ds).dataset()
    theirs = apply_voi_lut(apply_modality_lut(read.pixel_array, read), read)
    assert_close(rendered(ds), scaled(theirs, 0, 4095))


def test_monochrome_1_is_inverted():
    ds = grey()
    bright = rendered(ds)
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert_close(rendered(ds), 255 - bright.astype(int))


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_pixel_padding_is_black_and_does_not_count(interpretation):
    ds = grey(8, 8)
    values = CHANCE.integers(50, 100, (40, 30), dtype="u1")
    values[0, :2] = 50, 99
    values[5:] = 255
    ds.add_new("PixelData", "OB", values.tobytes())
    ds.add_new("PixelPaddingValue", "US", 255)
    ds.PhotometricInterpretation = interpretation
    image = rendered(ds)
    assert not image[5:].any()
    expected = scaled(values[:5], 50, 99)
    assert_close(image[:5], 255 - expected if interpretation == "MONOCHROME1" else expected)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_by_pixel_and_by_plane(planar):
    ds = secondary_capture()
    values = CHANCE.integers(0, 255, (32, 32, 3), dtype="u1")
    replace(ds, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar)
    ds.PixelData = (values.transpose(2, 0, 1) if planar else values).tobytes()
    assert np.array_equal(rendered(ds), values)


def test_a_palette_has_its_colours():
    ds = secondary_capture(PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = CHANCE.integers(0, 65535, 256).astype("<u2").tobytes()
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", table)
    read = encode(ds).dataset()
    assert_close(rendered(ds), apply_color_lut(read.pixel_array, read) >> 8)


def test_ybr_becomes_rgb():
    ds = secondary_capture()
    values = CHANCE.integers(0, 255, (32, 32, 3), dtype="u1")
    replace(
        ds, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0, PixelData=values.tobytes()
    )
    assert_close(rendered(ds), convert_color_space(values, "YBR_FULL", "RGB"))


def test_single_bits_are_black_and_white():
    ds = secondary_capture()
    bits = CHANCE.integers(0, 2, (32, 32), dtype="u1")
    replace(ds, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=np.packbits(bits, bitorder="little").tobytes())
    assert np.array_equal(rendered(ds), bits * 255)


def test_a_smaller_image_is_a_mean():
    ds = grey(8, 8)
    whole = rendered(ds).astype(float)
    small = rendered(ds, viewport=(15, 20), size=(15, 20))
    assert_close(small, np.rint(whole.reshape(20, 2, 15, 2).mean((1, 3))))
    assert rendered(ds, viewport=(60, 80), size=(60, 80)).shape == (80, 60)


def test_a_region_is_cut_out_and_mirrored():
    ds = grey(8, 8)
    whole = rendered(ds)
    ours = rendered(ds, region=(5, 10, 20, 10), flips=(True, False), viewport=(20, 10), size=(20, 10))
    low, high = encode(ds).dataset().pixel_array[10:20, 5:25].min(), encode(ds).dataset().pixel_array[10:20, 5:25].max()
    assert_close(ours, scaled(encode(ds).dataset().pixel_array[10:20, 5:25], low, high)[:, ::-1])
    assert whole.shape == (40, 30)


def test_functional_groups_have_the_window_of_each_frame():
    ds = grey()
    shared, own, window, transformation = Dataset(), Dataset(), Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = "1", "5"
    window.WindowCenter, window.WindowWidth = "2000", "1000"
    shared.PixelValueTransformationSequence = Sequence([transformation])
    own.FrameVOILUTSequence = Sequence([window])
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence([own])
    assert_close(rendered(ds), grey_window(ds, 1995, 1000))


def test_functional_groups_of_many_frames_are_read_to_the_last():
    ds, frames = grey(), []
    for number in range(2000):  # more than 64 KiB, which is the limit for the index
        own, window = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = str(1000 + number), "1000"
        own.FrameVOILUTSequence = Sequence([window])
        frames.append(own)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    assert_close(rendered(ds, frame=1900), grey_window(ds, 1000 + 1899, 1000))
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    assert_close(rendered(ds, frame=1900), grey_window(ds, 1000 + 1899, 1000))


def test_each_frame_of_an_animation_has_its_own_window():
    ds, frames = grey(8, 8), []
    for center in (50, 200):
        own, window = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = str(center), "100"
        own.FrameVOILUTSequence = Sequence([window])
        frames.append(own)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    order = order_of(ds, [1, 2])
    shown = animated(render(order | {"format": "gif", "quality": 90}, [bytes([90]) * 1200] * 2))
    assert [int(each[0, 0]) for each in shown] == [round(255 * (90 - 49.5) / 99 + 127.5), 0]


def test_without_a_window_all_frames_of_an_animation_share_one_range():
    order = order_of(grey(8, 8), [1, 2]) | {"format": "gif", "quality": 90}
    shown = animated(render(order, [bytes([20, 40] * 600), bytes([60, 120] * 600)]))
    assert [each[0, :2].tolist() for each in shown] == [[0, 51], [102, 255]]


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422", "SamplesPerPixel": 3}, "YBR_PARTIAL_422"),
        ({"PhotometricInterpretation": "RGB"}, "'RGB' with 1 samples"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "no palette"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SegmentedRedPaletteColorLookupTableData": b"00"}, "segmented"),
        ({"PerFrameFunctionalGroupsSequence": b"\0" * 20}, "functional groups"),
    ],
)
def test_what_nobody_can_say_how_to_show_is_refused(elements, why):
    ds = grey(8, 8)
    if isinstance(broken := elements.get("PerFrameFunctionalGroupsSequence"), bytes):
        ds.add_new(0x52009230, "OB", broken)
    else:
        replace(ds, **elements)
    with pytest.raises(InstanceRefused, match=why):
        rendered(ds)


def order_of(ds: Dataset, frames: list[int]) -> dict[str, Any]:
    found = find_pixels(io.BytesIO(encode(ds).data_set), encode(ds).transfer_syntax_uid, DISPLAY_TAGS)
    assert found is not None
    return display_of(found.elements, frames)


def animated(gif: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(gif)) as opened:
        return [np.array(each.convert("L")) for each in ImageSequence.Iterator(opened)]


def test_frames_become_an_animation():
    images = [bytes([number]) * 100 for number in (0, 100, 200)]
    order: dict[str, Any] = {
        "rows": 10,
        "columns": 10,
        "samples": 1,
        "allocated": 8,
        "stored": 8,
        "high": 7,
        "signed": False,
    }
    order |= {
        "numbers": [1, 2, 3],
        "interpretation": "MONOCHROME2",
        "planar": False,
        "inverse": False,
        "slope": 1.0,
        "intercept": 0.0,
    }
    gif = render(order | {"format": "gif", "quality": 90, "window": [128, 256, "LINEAR"]}, images)
    with Image.open(io.BytesIO(gif)) as opened:
        frames = [np.array(each.convert("L")) for each in ImageSequence.Iterator(opened)]
        assert opened.info["loop"] == 0
    assert [int(frame[0, 0]) for frame in frames] == [0, 100, 200]


def test_what_is_not_as_described_is_refused_and_the_next_is_not():
    ds = grey()
    with pytest.raises(InstanceRefused, match="not as its Data Set describes"):
        rendered(ds, rows=4000)
    assert rendered(ds).shape == (40, 30)


def test_a_renderer_that_died_is_replaced():
    ds = grey()
    rendered(ds)
    for worker in render_process._pool._idle:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    with pytest.raises(InstanceRefused, match="broke down"):
        rendered(ds)
    assert rendered(ds).shape == (40, 30)
