"""The program that ``decoder_process.py`` runs: reads frames from standard input, writes pixels to standard output.

It imports nothing of this package.  It ends at the end of its input, when one frame takes too long, and when a decoder
crashes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

if TYPE_CHECKING:
    import numpy as np

_ORDER = struct.Struct("<BBBLLQ")
_REPLY = struct.Struct("<BQ")
_READY = b"R"
_JPEG, _JPEG_LS, _JPEG_2000, _RLE = 1, 2, 3, 4
_DECODED, _FAILED, _OTHER_SHAPE, _NO_MEMORY = 0, 1, 2, 3
_ADDRESS_SPACE_BYTES = 6 << 30  # a frame of 1 GiB, and the memory that its decoder needs
_SHORTEST_LIMIT_S, _SAMPLES_PER_S = 30.0, 1e6
_RLE_HEADER_BYTES = 64


def main() -> None:
    """Decode one frame after another until the input ends."""
    source, result = os.fdopen(0, "rb", closefd=False), os.dup(1)
    os.dup2(2, 1)  # a library's output must not get between the pixels
    for name in ("SIGINT", "SIGTERM"):  # these are for the node, which closes the input when it is done
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform != "win32":  # whatever settings the node was started with
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import imagecodecs  # noqa: F401 - before it tells the node that it is ready

    _limit_memory()
    _write(result, _READY)
    while header := source.read(_ORDER.size):
        _answer(header, source, result)


def _answer(header: bytes, source: BinaryIO, result: int) -> None:
    codec, samples, width, rows, columns, size = _ORDER.unpack(header)
    codestream = source.read(size)
    _limit_time(_SHORTEST_LIMIT_S + rows * columns * samples / _SAMPLES_PER_S)
    status, pixels = _decode(codec, codestream, (rows, columns, samples), width)
    _limit_time(0)
    content = b"" if pixels is None else pixels.data.cast("B")
    _write(result, _REPLY.pack(status, len(content)), content)


def _write(descriptor: int, head: bytes, content: bytes | memoryview = b"") -> None:
    """Write both, in one call if the system has writev(), so that the node wakes up once."""
    if sys.platform == "win32":
        done = os.write(descriptor, head) - len(head)
    else:
        done = os.writev(descriptor, (head, content)) - len(head)
    while done < len(content):
        done += os.write(descriptor, content[done:])


def _decode(
    codec: int, codestream: bytes, shape: tuple[int, int, int], width: int
) -> tuple[int, np.ndarray[Any, Any] | None]:
    """Decode one frame; each sample has ``width`` bytes, little endian."""
    import numpy as np

    try:
        pixels = _rle(codestream, shape, width) if codec == _RLE else _image(codec, codestream, shape[2])
        is_as_described = pixels.shape == (shape if shape[2] > 1 else shape[:2])
        if not is_as_described or pixels.dtype.kind not in "iu" or pixels.itemsize > width:
            return _OTHER_SHAPE, None
        return _DECODED, np.ascontiguousarray(pixels, f"<{pixels.dtype.kind}{width}").reshape(-1)
    except MemoryError:
        return _NO_MEMORY, None
    except Exception:  # noqa: BLE001 - decoders raise many types
        return _FAILED, None


def _image(codec: int, codestream: bytes, samples: int) -> np.ndarray[Any, Any]:
    import imagecodecs

    if codec == _JPEG_LS:
        return imagecodecs.jpegls_decode(codestream)
    if codec == _JPEG_2000:  # HTJ2K too: OpenJPEG refuses a cut codestream
        return imagecodecs.jpeg2k_decode(codestream)
    if samples == 1:
        return imagecodecs.jpeg8_decode(codestream)
    return imagecodecs.jpeg8_decode(
        codestream, colorspace="RGB", outcolorspace="RGB"
    )  # any colour space: no conversion


def _rle(codestream: bytes, shape: tuple[int, int, int], width: int) -> np.ndarray[Any, Any]:
    """Join the bytes of each pixel, the most significant first (PS3.5 G.2)."""
    import imagecodecs
    import numpy as np

    rows, columns, samples = shape
    count = samples * width
    bounds = [*struct.unpack_from(f"<{count}L", codestream, 4), len(codestream)]
    planes = np.empty((rows, columns, samples, width), "u1")
    for number in range(count):
        segment = imagecodecs.packbits_decode(codestream[bounds[number] : bounds[number + 1]])
        plane = np.frombuffer(segment, "u1", rows * columns).reshape(rows, columns)  # raises when it is too short
        planes[:, :, number // width, width - 1 - number % width] = plane
    return (
        planes.reshape(rows, columns, samples * width).view(f"<u{width}").reshape(shape if samples > 1 else shape[:2])
    )


@functools.cache
def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - a device, open while this runs


def _limit_time(limit_s: float) -> None:
    """End this process after so many seconds, whatever it does; 0 removes the limit."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, limit_s)  # the default action of its signal ends the process
    elif limit_s:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=_nowhere())
    else:
        faulthandler.cancel_dump_traceback_later()


def _limit_memory() -> None:
    """Limit this process's memory, if the system can: a huge image must fail here, not use up the node's memory."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))


if __name__ == "__main__":
    main()
