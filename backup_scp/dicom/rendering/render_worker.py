"""The program that ``render_process.py`` runs: reads orders and pixels from standard input, writes images.

It imports nothing of this package.  It ends at the end of its input, and when one image takes too long.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_HEAD = struct.Struct("<LQ")
_REPLY = struct.Struct("<BQ")
_RENDERED, _FAILED = 0, 1
_LIMIT_S = 60.0
_ADDRESS_SPACE_BYTES = 4 << 30
_TABLE_BITS = 16
_WHITE = 255
_GIF_DELAY = 10  # hundredths of a second


def main() -> None:
    """Render one image after another until the input ends."""
    source, result = os.fdopen(0, "rb", closefd=False), os.dup(1)
    os.dup2(2, 1)
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import imagecodecs  # noqa: F401 - before it tells that it is ready
    import numpy as np

    np.seterr(all="ignore")
    if sys.platform != "win32":
        import resource

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    os.write(result, b"R")
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        length, size = _HEAD.unpack(head)
        order, pixels = source.read(length), source.read(size)
        _limit(_LIMIT_S)
        try:
            status, content = _RENDERED, _rendered(json.loads(order), pixels)
        except Exception:  # noqa: BLE001 - whatever is wrong with these pixels concerns them alone
            status, content = _FAILED, b""
        _limit(0)
        with os.fdopen(os.dup(result), "wb") as stream:
            stream.write(_REPLY.pack(status, len(content)))
            stream.write(content)


def _limit(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _rendered(order: dict[str, Any], pixels: bytes) -> bytes:
    import numpy as np

    frame_bytes, view = len(pixels) // order["frames"], memoryview(pixels)
    contents = [view[number * frame_bytes : (number + 1) * frame_bytes] for number in range(order["frames"])]
    if len(contents) > 1 and order["samples"] == 1 and not order.get("palette"):
        ends = [_ends(_cropped(_samples(order, each), order), order) for each in contents]
        order["ends"] = min(low for low, _ in ends), max(high for _, high in ends)
    images = []
    for each, content, number in zip(
        order.get("each") or [{}] * len(contents), contents, order["numbers"], strict=True
    ):
        image = _sized(_image({**order, **each, "number": number}, content), order)
        width, height = order.get("cut") or image.shape[1::-1]
        images.append(np.ascontiguousarray(image[:height, :width]))
    return _encoded(np.stack(images) if order["format"] == "gif" else images[0], order)


def _image(order: dict[str, Any], content: memoryview) -> Array:
    """Return one frame as grey or RGB, 8 bits."""
    pixels = _cropped(_samples(order, content), order)
    if order["samples"] != 1:
        shift = max(0, order["stored"] - 8)
        image = _rgb((pixels >> shift).astype("u1"), order["interpretation"])
    else:
        image = _palette(pixels, order) if order.get("palette") else _grey(pixels, order)
    for mask, level in _masks(order, content):
        image[_cropped(mask, order)] = level
    return _surrounded(image, order)


def _masks(order: dict[str, Any], content: memoryview) -> list[tuple[Array, int]]:
    """Return which pixels overlays and shutters cover, and their grey level; shutters hide overlays."""
    masks = [(_overlay(each, order, content), each["level"]) for each in order.get("overlays", ())]
    if shutters := order.get("shutters"):
        masks.append((_hidden(shutters, order["rows"], order["columns"]), shutters["level"]))
    return masks


def _overlay(overlay: dict[str, Any], order: dict[str, Any], content: memoryview) -> Array:
    import numpy as np

    mask: Array = np.zeros((order["rows"], order["columns"]), "?")
    if "bit" in overlay:
        words = np.frombuffer(content, f"<u{order['allocated'] // 8}", mask.size)
        mask[...] = words.reshape(mask.shape) >> overlay["bit"] & 1
        return mask
    rows, columns, top, left = (overlay[name] for name in ("rows", "columns", "top", "left"))
    place = order["number"] - overlay["first"] if overlay["count"] else 0
    if not 0 <= place < max(1, overlay["count"]):
        return mask
    first = place * rows * columns
    packed = np.frombuffer(base64.b64decode(overlay["bits"]), "u1")[first // 8 : -(-(first + rows * columns) // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: rows * columns].reshape(rows, columns)
    target = mask[max(0, top) : max(0, top + rows), max(0, left) : max(0, left + columns)]
    source = bits[max(0, -top) :, max(0, -left) :][: target.shape[0], : target.shape[1]]
    target[...] = source
    return mask


def _hidden(shutters: dict[str, Any], rows: int, columns: int) -> Array:
    """Return what shutters hide: all that is outside of one of them (PS3.3 C.7.6.11); the first pixel is 1, 1."""
    import numpy as np

    y, x = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]
    shown: Array = np.ones((rows, columns), "?")
    if rectangle := shutters.get("rectangle"):
        left, right, upper, lower = rectangle
        shown &= (x >= left) & (x <= right) & (y >= upper) & (y <= lower)
    if circle := shutters.get("circle"):
        shown &= (y - circle[0]) ** 2 + (x - circle[1]) ** 2 <= circle[2] ** 2
    if polygon := shutters.get("polygon"):
        corners = list(zip(polygon[::2], polygon[1::2], strict=True))
        inside: Array = np.zeros((rows, columns), "?")
        for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        shown &= inside
    return ~shown


def _surrounded(image: Array, order: dict[str, Any]) -> Array:
    """Add black where the region is larger than the image."""
    import numpy as np

    if not order.get("is_whole") or "region" not in order:
        return image
    left, top, width, height = order["region"]
    beside = (max(0, -left), max(0, left + width - order["columns"]))
    above = (max(0, -top), max(0, top + height - order["rows"]))
    padded: Array = np.pad(image, (above, beside, (0, 0))[: image.ndim])
    return padded


def _samples(order: dict[str, Any], content: memoryview) -> Array:
    """Return the samples of a frame: rows, columns, and samples of a pixel if there are several."""
    import numpy as np

    rows, columns, samples, allocated = (order[name] for name in ("rows", "columns", "samples", "allocated"))
    count = rows * columns * samples
    if order.get("float"):
        return np.frombuffer(content, f"<f{allocated // 8}", count).reshape(rows, columns)
    if allocated == 1:
        return np.unpackbits(np.frombuffer(content, "u1"), count=count, bitorder="little").reshape(rows, columns)
    if order["interpretation"] == "YBR_FULL_422" and order.get("packed"):
        return _from_422(np.frombuffer(content, "u1", rows * columns * 2), rows, columns)
    sign = "i" if order["signed"] and order["high"] + 1 == order["stored"] == allocated else "u"
    values = np.frombuffer(content, f"<{sign}{allocated // 8}", count)
    shift = order["high"] + 1 - order["stored"]
    if sign == "u" and order["stored"] < allocated:
        values = (values >> max(0, shift)) & ((1 << order["stored"]) - 1)
    if sign == "u" and order["signed"]:
        half = 1 << order["stored"] - 1
        values = (values.astype("i8") ^ half) - half if allocated > 16 else (values.astype("i4") ^ half) - half
    if samples == 1:
        return values.reshape(rows, columns)
    if order["planar"]:
        return values.reshape(samples, rows, columns).transpose(1, 2, 0)
    return values.reshape(rows, columns, samples)


def _from_422(values: Array, rows: int, columns: int) -> Array:
    import numpy as np

    pairs = values.reshape(rows, columns // 2, 4)
    result = np.empty((rows, columns, 3), "u1")
    result[:, 0::2, 0], result[:, 1::2, 0] = pairs[:, :, 0], pairs[:, :, 1]
    for channel in (1, 2):
        result[:, 0::2, channel] = result[:, 1::2, channel] = pairs[:, :, channel + 1]
    return result


def _cropped(pixels: Array, order: dict[str, Any]) -> Array:
    """Cut to the region, and leave out most pixels when the image is shown much smaller."""
    if region := order.get("region"):
        left, top, width, height = region
        pixels = pixels[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    if (viewport := order.get("viewport")) and not (order.get("is_whole") or order.get("overlays")):
        across = order.get("samples_across", 3)
        down, right = (max(1, pixels.shape[axis] // viewport[1 - axis] // across) for axis in (0, 1))
        pixels = pixels[::down, ::right]
    return pixels


def _grey(pixels: Array, order: dict[str, Any]) -> Array:
    import numpy as np

    outside = _padding(pixels, order)
    ends = order.get("ends") or _ends(pixels, order)
    if order.get("float") or order["stored"] > _TABLE_BITS:
        image = _displayed(pixels.astype("f8"), order, ends)
    else:
        bits = order["stored"]
        lowest = -(1 << bits - 1) if order["signed"] else 0
        table = _displayed(np.arange(lowest, lowest + (1 << bits), dtype="f8"), order, ends)
        image = np.take(table, pixels.astype("i4") - lowest if lowest else pixels, mode="clip")
    if outside is not None:
        image[outside] = 0
    return image


def _padding(pixels: Array, order: dict[str, Any]) -> Array | None:
    padding = order.get("padding")
    return (pixels >= padding[0]) & (pixels <= padding[1]) if padding else None


def _ends(pixels: Array, order: dict[str, Any]) -> tuple[float, float]:
    """Return the lowest and highest value: of those that can be stored, or of those that are."""
    if order.get("is_full_range"):
        bits, is_signed = order["stored"], order["signed"]
        return (-float(1 << bits - 1), float((1 << bits - 1) - 1)) if is_signed else (0.0, float((1 << bits) - 1))
    outside = _padding(pixels, order)
    seen = pixels if outside is None or outside.all() else pixels[~outside]
    return float(seen.min()), float(seen.max())


def _displayed(values: Array, order: dict[str, Any], ends: tuple[float, float]) -> Array:
    """Transform stored values to what is displayed (PS3.4 N.2): modality, values of interest, presentation."""
    import numpy as np

    values, ends = _modality(values, order), tuple(_modality(np.array(ends), order))
    if order.get("is_full_range") and (lut := order.get("modality_lut")):
        ends = 0.0, float((1 << lut["bits"]) - 1)
    if window := order.get("window"):
        shown = _windowed(values, *window)
    elif lut := order.get("voi_lut"):
        shown = _looked_up(values, lut) / ((1 << lut["bits"]) - 1)
    else:
        lowest, highest = min(ends), max(ends)
        shown = (values - lowest) / ((highest - lowest) or 1)
    shown = np.clip(np.nan_to_num(shown), 0, 1)
    if lut := order.get("presentation_lut"):
        table: Array = np.array(lut["values"], "f8") / ((1 << lut["bits"]) - 1)
        shown = np.clip(table[np.rint(shown * (len(table) - 1)).astype("i4")], 0, 1)
    image: Array = np.rint((1 - shown if order["inverse"] else shown) * _WHITE).astype("u1")
    return image


def _modality(values: Array, order: dict[str, Any]) -> Array:
    if lut := order.get("modality_lut"):
        return _looked_up(values, lut)
    slope, intercept = float(order["slope"]), float(order["intercept"])
    scaled: Array = values * slope + intercept
    return scaled


def _looked_up(values: Array, lut: dict[str, Any]) -> Array:
    import numpy as np

    table: Array = np.array(lut["values"], "f8")
    found: Array = np.take(table, np.clip(values - int(lut["first"]), 0, len(table) - 1).astype("i4"))
    return found


def _windowed(values: Array, center: float, width: float, function: str) -> Array:
    """Apply a window, to 0 to 1 (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""
    import numpy as np

    shown: Array
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(-4 * (values - center) / width))
    elif function == "LINEAR_EXACT":
        shown = (values - center) / width + 0.5
    elif width <= 1:
        shown = (values > center - 0.5).astype("f8")
    else:
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    return shown


def _palette(pixels: Array, order: dict[str, Any]) -> Array:
    import numpy as np

    channels = [_looked_up(pixels.astype("f8"), lut) for lut in order["palette"]]
    shifts = [8 if lut["bits"] > 8 and max(lut["values"]) > _WHITE else 0 for lut in order["palette"]]
    return np.stack(
        [channel.astype("u2") >> shift for channel, shift in zip(channels, shifts, strict=True)], axis=-1
    ).astype("u1")


def _rgb(pixels: Array, interpretation: str) -> Array:
    """Convert to RGB (PS3.3 C.7.6.3.1.2)."""
    import numpy as np

    if not interpretation.startswith("YBR_FULL"):
        return np.ascontiguousarray(pixels)
    luminance = pixels[..., 0].astype("f4")
    blue, red = pixels[..., 1].astype("f4") - 128, pixels[..., 2].astype("f4") - 128
    channels = (luminance + 1.402 * red, luminance - 0.344136 * blue - 0.714136 * red, luminance + 1.772 * blue)
    return np.clip(np.rint(np.stack(channels, axis=-1)), 0, _WHITE).astype("u1")


def _sized(image: Array, order: dict[str, Any]) -> Array:
    """Scale to the viewport; each pixel of a smaller image is the mean of those that it covers."""
    import numpy as np

    flips = order.get("flips", (False, False))
    image = np.rot90(image, -order.get("rotation", 0))
    image = image[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    if not order.get("viewport"):
        return np.ascontiguousarray(image)
    width, height = order["size"]
    rows, columns = (
        np.arange(wanted) * found // wanted for wanted, found in zip((height, width), image.shape, strict=False)
    )
    if height > image.shape[0] or width > image.shape[1]:
        return np.ascontiguousarray(image[rows][:, columns])
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0, dtype="u4"), columns, axis=1)
    counts = np.outer(np.diff(rows, append=image.shape[0]), np.diff(columns, append=image.shape[1]))
    return np.rint(sums / (counts if image.ndim == 2 else counts[..., None])).astype("u1")


def _encoded(image: Array, order: dict[str, Any]) -> bytes:
    import imagecodecs

    if order["format"] == "png":
        return bytes(imagecodecs.png_encode(image))
    if order["format"] == "gif":
        return _animated(_gif(image))
    return bytes(imagecodecs.jpeg8_encode(image, level=order["quality"]))


def _gif(images: Array) -> bytes:
    """Encode frames; colours are reduced to 256."""
    import imagecodecs
    import numpy as np

    if images.ndim == 3:
        return bytes(imagecodecs.gif_encode(images))
    codes = (images[..., 0] & 0xE0) | (images[..., 1] & 0xE0) >> 3 | images[..., 2] >> 6
    every = np.arange(256, dtype="u2")
    colours = np.stack([(every >> 5) * 255 // 7, (every >> 2 & 7) * 255 // 7, (every & 3) * 255 // 3], axis=-1)
    return bytes(imagecodecs.gif_encode(np.ascontiguousarray(codes), colormap=colours.astype("u1")))


def _animated(gif: bytes) -> bytes:
    """Add what makes browsers play it: a pause behind each frame, and repetition (GIF89a)."""
    at = 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    pieces = [b"GIF89a", gif[6:at], b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"]
    while gif[at] != 0x3B:
        start = at
        if gif[at] == 0x2C:
            pieces.append(b"\x21\xf9\x04\0" + struct.pack("<H", _GIF_DELAY) + b"\0\0")
            at += 11 + (3 << (gif[at + 9] & 7) + 1 if gif[at + 9] & 0x80 else 0)
        else:
            at += 2
        while gif[at]:
            at += gif[at] + 1
        at += 1
        pieces.append(gif[start:at])
    return b"".join(pieces) + b"\x3b"


if __name__ == "__main__":
    main()
