"""Images that a viewer can show wrongly, a series each, and what pydicom says that a screen must show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.samples import Sample, dx, encode, presentation_state, replace, uid
from tests.system.peers import dcmtk

ROWS, COLUMNS = 200, 160
STUDY = "cases"
IDENTITY = {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 192"}
LOSSLESS = {"RLE": RLELossless, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
WINDOW = {"WindowCenter": "1800", "WindowWidth": "2600"}


class Case(NamedTuple):
    """One image.

    Attributes
    ----------
    name
        Its Series Description.
    samples
        What to store.
    expected
        The grey levels or colours that it is shown with, 0 to 255.
    most
        How far the screen may be from them.
    look
        Which entry of the list of contrasts to choose.
    clear
        Where pixels are compared; an edge that is not along pixels is drawn smoothly.
    """

    name: str
    samples: list[Sample]
    expected: np.ndarray
    most: float = 1.0
    look: int = 0
    clear: np.ndarray | None = None


class Cases:
    """Makes the cases, in order, each with a Series Number of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def _image(self, name: str, **elements: object) -> Dataset:
        self._count += 1
        ds = dx(study=STUDY, series=str(self._count), SeriesDescription=name, **IDENTITY)
        y, x = np.mgrid[0:ROWS, 0:COLUMNS]
        words = (x * 1900 // COLUMNS + y * 1900 // ROWS).astype("<u2")
        words[ROWS // 10 : ROWS // 3, COLUMNS // 10 : COLUMNS // 2] = 4095
        replace(ds, Rows=ROWS, Columns=COLUMNS, PixelData=words.tobytes(), SeriesNumber=str(self._count))
        return replace(ds, **elements)

    def __iter__(self) -> Iterator[Case]:
        yield from self._grey()
        yield from self._drawn()
        yield from self._compressed()
        yield from self._coloured()
        yield from self._presented()

    def _plain(self, ds: Dataset, expected: np.ndarray | None = None, **named: object) -> Case:
        return Case(ds.SeriesDescription, [encode(ds)], rendered(ds) if expected is None else expected, **named)  # type: ignore[arg-type]

    def _grey(self) -> Iterator[Case]:
        yield self._plain(self._image("window", **WINDOW))
        yield self._plain(self._image("no window"))
        yield self._plain(self._image("MONOCHROME1", PhotometricInterpretation="MONOCHROME1", **WINDOW))
        yield self._plain(self._image("INVERSE", PresentationLUTShape="INVERSE", **WINDOW))
        yield self._plain(self._image("LINEAR_EXACT", VOILUTFunction="LINEAR_EXACT", **WINDOW))
        yield self._plain(self._image("SIGMOID", VOILUTFunction="SIGMOID", **WINDOW))
        yield self._plain(self._image("narrow window", WindowCenter="1000", WindowWidth="1"))
        yield self._plain(self._image("padding", PixelPaddingValue=4095))
        padding = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
        inverse = {"PhotometricInterpretation": "MONOCHROME1"}
        yield self._plain(self._image("padding in MONOCHROME1", **padding, **inverse, **WINDOW))
        yield self._plain(self._image("padding in a wide window", **padding, WindowCenter="0", WindowWidth="9000"))
        table = Sequence([lut(-100, 2300, 12, lambda at: 4095 * (at / 2300) ** 2, "soft")])
        yield self._plain(self._image("VOI LUT", VOILUTSequence=table))
        both = self._image("VOI LUT chosen", VOILUTSequence=table, **WINDOW)
        alone = Dataset()
        alone.update(both)
        del alone.WindowCenter, alone.WindowWidth
        yield self._plain(both, rendered(alone), look=2)
        modality = Sequence([lut(0, 4096, 16, lambda at: 65535 * np.sqrt(at / 4095), "", ModalityLUTType="US")])
        yield self._plain(
            self._image("Modality LUT", ModalityLUTSequence=modality, WindowCenter="30000", WindowWidth="50000")
        )
        signed = {"PixelRepresentation": 1, "RescaleSlope": "0.5", "RescaleIntercept": "-1024"}
        ct = self._image("signed and rescaled", **signed, WindowCenter="-500", WindowWidth="900")
        yield self._plain(ct)
        falling = {"RescaleSlope": "-1", "RescaleIntercept": "4095"}
        yield self._plain(self._image("falling slope", **falling, WindowCenter="3000", WindowWidth="2600"))
        shifted = self._image("bits in the middle", HighBit=13, **WINDOW)
        words = np.frombuffer(shifted.PixelData, "<u2")
        shown = rendered(shifted)
        yield self._plain(replace(shifted, PixelData=(words << 2 | 1).astype("<u2").tobytes()), shown)
        byte = self._image("8 bits", BitsAllocated=8, BitsStored=8, HighBit=7)
        byte.PixelData = (np.frombuffer(byte.PixelData, "<u2") >> 4).astype("u1").tobytes()
        byte["PixelData"].VR = "OB"
        yield self._plain(byte)

    def _drawn(self) -> Iterator[Case]:
        mask = np.zeros((ROWS, COLUMNS), bool)
        mask[150:160, 20:140] = mask[20:180, 100:104] = True
        embedded = self._image("overlay in the words", **WINDOW)
        expected = np.where(mask, 255, rendered(embedded))
        words = np.frombuffer(embedded.PixelData, "<u2").reshape(ROWS, COLUMNS) | (mask.astype("<u2") << 14)
        overlay(replace(embedded, PixelData=words.astype("<u2").tobytes()), ROWS, COLUMNS, 14, None)
        yield self._plain(embedded, expected)
        beside = self._image("overlay", **WINDOW)
        expected = rendered(beside)
        expected[50:60, 30:64][mask[150:160, 20:54]] = 255
        overlay(beside, 10, 34, 0, np.packbits(mask[150:160, 20:54], bitorder="little").tobytes(), (51, 31))
        yield self._plain(beside, expected)
        edges = {"ShutterLeftVerticalEdge": 21, "ShutterRightVerticalEdge": 120}
        edges |= {"ShutterUpperHorizontalEdge": 31, "ShutterLowerHorizontalEdge": 170}
        shutter = self._image("shutter", ShutterShape="RECTANGULAR", **edges, **WINDOW)
        expected = np.zeros((ROWS, COLUMNS))
        expected[30:170, 20:120] = rendered(shutter)[30:170, 20:120]
        yield self._plain(shutter, expected)
        yield from self._slanted_shutters()

    def _slanted_shutters(self) -> Iterator[Case]:
        y, x = np.mgrid[0:ROWS, 0:COLUMNS]
        radius = np.hypot(x - 80, y - 90)
        circle = self._image("circular shutter", ShutterShape="CIRCULAR", **WINDOW)
        replace(circle, CenterOfCircularShutter=[91, 81], RadiusOfCircularShutter=60, ShutterPresentationValue=0x8000)
        expected = np.where(radius <= 60, rendered(circle), 127.5)
        yield self._plain(circle, expected, clear=np.abs(radius - 60) > 2)
        corners = [21, 21, 181, 21, 181, 141]  # rows and columns of a triangle
        triangle = self._image("polygonal shutter", ShutterShape="POLYGONAL", **WINDOW)
        replace(triangle, VerticesOfThePolygonalShutter=corners)
        distance = np.minimum(np.minimum(x - 20, 180 - y), (y - 20) * 0.75 - (x - 20))
        expected = np.where(distance >= 0, rendered(triangle), 0)
        yield self._plain(triangle, expected, clear=np.abs(distance) > 2)

    def _compressed(self) -> Iterator[Case]:
        for name, syntax in LOSSLESS.items():
            ds = self._image(name, **WINDOW)
            yield Case(ds.SeriesDescription, [compressed(ds, syntax)], rendered(ds))
        ds = self._image("HTJ2K", **WINDOW)
        yield Case(ds.SeriesDescription, [self._htj2k(ds)], rendered(ds))
        for option in ("+e1", "+el"):
            ds = self._image(f"JPEG {option}", **WINDOW)
            yield Case(ds.SeriesDescription, [self._by_dcmtk("dcmcjpeg", option, "+un", ds=ds)], rendered(ds))
        signed = self._image(
            "JPEG-LS, signed", PixelRepresentation=1, RescaleSlope="1", RescaleIntercept="-1024", **WINDOW
        )
        signed.PixelData = (np.frombuffer(signed.PixelData, "<u2").astype("i4") - 2048).astype("<i2").tobytes()
        replace(signed, WindowCenter="-1400", WindowWidth="3000")
        yield Case(signed.SeriesDescription, [compressed(signed, JPEGLSLossless)], rendered(signed))
        byte = self._image(
            "JPEG baseline", BitsAllocated=8, BitsStored=8, HighBit=7, WindowCenter="128", WindowWidth="256"
        )
        byte.PixelData = (np.frombuffer(byte.PixelData, "<u2") >> 4).astype("u1").tobytes()
        byte["PixelData"].VR = "OB"
        sample = self._by_dcmtk("dcmcjpeg", "+eb", ds=byte)
        yield Case(byte.SeriesDescription, [sample], rendered(sample.dataset()), 2.0)

    def _colour(self, name: str, interpretation: str = "RGB", **elements: object) -> Dataset:
        ds = self._image(name, BitsAllocated=8, BitsStored=8, HighBit=7, SamplesPerPixel=3, PlanarConfiguration=0)
        y, x = np.mgrid[0:ROWS, 0:COLUMNS]
        planes = np.stack([x * 255 // COLUMNS, y * 255 // ROWS, (x + y) * 255 // (ROWS + COLUMNS)], axis=-1).astype(
            "u1"
        )
        planes[20:60, 30:90] = (255, 0, 64)
        replace(ds, PhotometricInterpretation=interpretation, PixelData=planes.tobytes(), **elements)
        ds["PixelData"].VR = "OB"
        return ds

    def _coloured(self) -> Iterator[Case]:
        yield self._plain(self._colour("RGB"))
        planar = self._colour("RGB by plane", PlanarConfiguration=1)
        pixels = np.frombuffer(planar.PixelData, "u1").reshape(ROWS, COLUMNS, 3)
        yield self._plain(replace(planar, PixelData=pixels.transpose(2, 0, 1).tobytes()), pixels)
        yield self._plain(self._colour("YBR_FULL", "YBR_FULL"))
        for name, syntax in LOSSLESS.items():
            ds = self._colour(f"RGB in {name}")
            yield Case(ds.SeriesDescription, [compressed(ds, syntax)], rendered(ds))
        ds = self._colour("colour in JPEG baseline")
        sample = self._by_dcmtk("dcmcjpeg", "+eb", "+q", "95", ds=ds)
        yield Case(ds.SeriesDescription, [sample], rendered(sample.dataset()), 3.0)
        palette = self._image(
            "palette", BitsAllocated=8, BitsStored=8, HighBit=7, PhotometricInterpretation="PALETTE COLOR"
        )
        palette.PixelData = (np.frombuffer(palette.PixelData, "<u2") >> 4).astype("u1").tobytes()
        palette["PixelData"].VR = "OB"
        for number, colour in enumerate(("Red", "Green", "Blue")):
            values = ((np.arange(256) * (number + 1) % 256) * 257).astype("<u2")
            setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(palette, f"{colour}PaletteColorLookupTableData", values.tobytes())
        yield self._plain(palette)

    def _presented(self) -> Iterator[Case]:
        ds = self._image("Presentation State", **WINDOW)
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = "1000", "1000"
        state = presentation_state(ds, series="states", StudyInstanceUID=ds.StudyInstanceUID)
        replace(state, SoftcopyVOILUTSequence=Sequence([voi]), PresentationLUTShape="INVERSE", ContentLabel="DARK")
        replace(state, ImageRotation=180, ImageHorizontalFlip="N")
        shown = Dataset()
        shown.update(ds)
        replace(shown, WindowCenter="1000", WindowWidth="1000", PresentationLUTShape="INVERSE")
        yield Case(ds.SeriesDescription, [encode(ds), encode(state)], rendered(shown)[::-1, ::-1], look=2)
        ds = self._image("Presentation LUT", **WINDOW)
        state = presentation_state(ds, series="states", StudyInstanceUID=ds.StudyInstanceUID)
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = WINDOW["WindowCenter"], WINDOW["WindowWidth"]
        table = lut(0, 4096, 12, lambda at: 4095 * (at / 4095) ** 1.5, "")
        replace(state, SOPInstanceUID=uid("Presentation LUT"), ContentLabel="GAMMA")
        replace(state, SoftcopyVOILUTSequence=Sequence([voi]), PresentationLUTSequence=Sequence([table]))
        yield Case(ds.SeriesDescription, [encode(ds), encode(state)], 255 * (rendered(ds) / 255) ** 1.5, look=2)

    def _by_dcmtk(self, *command: str, ds: Dataset) -> Sample:
        name = f"{self._count}.dcm"
        dcmtk(*command, encode(ds).write(self._folder / "native" / name), self._folder / name)
        sample = Sample.of_file(self._folder / name)
        assert sample is not None
        return sample

    def _htj2k(self, ds: Dataset) -> Sample:
        frame = np.frombuffer(ds.PixelData, "<u2").reshape(ROWS, COLUMNS)
        file = encode(ds).dataset()
        file.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(frame, None, reversible=True))])
        file["PixelData"].VR = "OB"
        file["PixelData"].is_undefined_length = True
        return encode(file, HTJ2KLossless)


def lut(
    first: int, count: int, bits: int, curve: Callable[[np.ndarray], np.ndarray], explanation: str, **more: object
) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    if explanation:
        item.LUTExplanation = explanation
    item.add_new("LUTData", "OW", curve(np.arange(count, dtype=float)).astype("<u2").tobytes())
    return replace(item, **more)


def overlay(
    ds: Dataset, rows: int, columns: int, bit: int, data: bytes | None, origin: tuple[int, int] = (1, 1)
) -> None:
    """Add an overlay plane: in the pixel words at this bit, or with data of its own."""
    ds.add_new(0x60000010, "US", rows)
    ds.add_new(0x60000011, "US", columns)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", list(origin))
    ds.add_new(0x60000100, "US", 1 if data else 16)
    ds.add_new(0x60000102, "US", bit)
    if data:
        ds.add_new(0x60003000, "OW", data + b"\0" * (len(data) % 2))


def compressed(ds: Dataset, transfer_syntax_uid: str) -> Sample:
    file = encode(ds).dataset()
    file.compress(transfer_syntax_uid, generate_instance_uid=False)
    return encode(file, transfer_syntax_uid)


def rendered(ds: Dataset) -> np.ndarray:
    """Return what pydicom renders: grey levels or colours, 0 to 255; padding is black."""
    file = ds if hasattr(ds, "file_meta") else encode(ds).dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = file.pixel_array
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            return (apply_color_lut(pixels, ds) >> 8).astype(float)
        if ds.SamplesPerPixel == 3:
            return pixels.astype(float)  # pydicom has converted them to RGB
        return _grey(pixels, file)


def _grey(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    value = ds.get("PixelPaddingValue")
    outside = np.zeros(pixels.shape, bool)
    if value is not None:
        outside = (pixels >= value) & (pixels <= ds.get("PixelPaddingRangeLimit", value))
    values = apply_modality_lut(pixels, ds).astype(float)
    if "WindowWidth" in ds:
        ends = apply_windowing(np.array([-1e9, 1e9]), ds)
        shown = (apply_windowing(values, ds) - ends[0]) / (ends[1] - ends[0])
    elif "VOILUTSequence" in ds:
        shown = apply_voi(values.astype("i4"), ds) / (2 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1)
    else:
        seen = values[~outside]
        shown = (values - seen.min()) / (seen.max() - seen.min())
    is_inverse = ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
    grey = np.clip(1 - shown if is_inverse else shown, 0, 1) * 255
    grey[outside] = 0
    return grey
