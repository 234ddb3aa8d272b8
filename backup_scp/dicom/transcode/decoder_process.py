"""One kept process that decodes frames, so that a decoder which crashes, hangs or eats memory costs one image.

It is started when the first frame comes, serves all threads in turn, and is started anew after it has ended.  It ends
with the node: its input is closed then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from backup_scp.errors import InstanceRefused

_PROGRAM = Path(__file__).with_name("decoder_worker.py")
_ORDER = struct.Struct("<BBBLLQ")
_REPLY = struct.Struct("<BQ")
_PART_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20
_READY = b"R"

Write = Callable[[memoryview], object]


class Codec(IntEnum):
    """A family of decoders; the worker knows them by these numbers."""

    JPEG = 1
    JPEG_LS = 2
    JPEG_2000 = 3
    RLE = 4


class _Status(IntEnum):
    DECODED = 0
    FAILED = 1
    OTHER_SHAPE = 2
    NO_MEMORY = 3


_REASONS = {
    _Status.FAILED: "its pixels cannot be decoded: the compressed data is damaged",
    _Status.OTHER_SHAPE: "its pixels cannot be decoded: they come out in another shape than the Data Set says",
    _Status.NO_MEMORY: "its pixels cannot be decoded: that takes more memory than a decoder is given here",
}


class Order(NamedTuple):
    """What has to come out of a decoder."""

    codec: Codec
    rows: int
    columns: int
    samples: int
    bytes_per_sample: int

    @property
    def size_bytes(self) -> int:
        """Length of the decoded frame."""
        return self.rows * self.columns * self.samples * self.bytes_per_sample

    def encode(self, codestream_bytes: int) -> bytes:
        """Make the header that goes before a codestream."""
        return _ORDER.pack(self.codec, self.samples, self.bytes_per_sample, self.rows, self.columns, codestream_bytes)


class DecoderProcess:
    """Decodes frames in a child process that is kept; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a process that was forked from this one starts its own
        atexit.register(self.end)

    def decode(self, order: Order, codestream: bytes, write: Write) -> None:
        """Decode one frame and hand it on in parts of up to 1 MiB.

        Raises
        ------
        InstanceRefused
            It cannot be decoded; the next frame can.
        """
        with self._lock:
            process = self._running()
            try:
                status = _exchange(process, order, codestream, write)
            except (BrokenPipeError, EOFError, ValueError):  # the last when its pipes were closed
                self.end()
                raise InstanceRefused("its pixels cannot be decoded: the decoder broke down over them") from None
            except BaseException:
                self.end()  # what is left in its pipes belongs to no other frame
                raise
        if status is not _Status.DECODED:
            raise InstanceRefused(_REASONS[status])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            self.end()
        if self._process is None:
            self._process, self._owner = _start(), os.getpid()
        return self._process

    def end(self) -> None:
        """End the process, also under somebody who waits for it; a later frame starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._owner == os.getpid():
            process.kill()
            process.wait()
        for stream in _pipes(process):
            with contextlib.suppress(OSError):  # what was not written yet has nowhere to go
                stream.close()


def _start() -> subprocess.Popen[bytes]:
    """Start the worker, by its file: it loads nothing of this package, so that it is there in a moment."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    to_it, from_it = _pipes(process)
    if from_it.read(1) != _READY:
        process.kill()
        process.communicate()
        raise InstanceRefused("its decoder does not start; run: pip install --force-reinstall backup-scp[images]")
    for stream in (to_it, from_it):
        _enlarge(stream.fileno())
    return process


def _exchange(process: subprocess.Popen[bytes], order: Order, codestream: bytes, write: Write) -> _Status:
    """Give one frame to the worker and take what comes back; anything raised leaves the pipes out of step."""
    to_it, from_it = _pipes(process)
    to_it.write(order.encode(len(codestream)))
    to_it.write(codestream)
    to_it.flush()
    number, left = _REPLY.unpack(_read_into(from_it, memoryview(bytearray(_REPLY.size))))
    status = _Status(number)
    if status is not _Status.DECODED:
        return status
    if left != order.size_bytes:
        raise EOFError
    memory = memoryview(bytearray(min(left, _PART_BYTES)))
    while left:
        part = _read_into(from_it, memory[:left])
        write(part)
        left -= len(part)
    return status


def _read_into(stream: BinaryIO, memory: memoryview) -> memoryview:
    done = 0
    while done < len(memory):
        count = stream.readinto(memory[done:])  # type: ignore[attr-defined] # typeshed's BinaryIO lacks it
        if not count:
            raise EOFError
        done += count
    return memory


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    return cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)


def _enlarge(descriptor: int) -> None:
    """Let a pipe hold 1 MiB where the system allows it: fewer turns between the two processes."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
