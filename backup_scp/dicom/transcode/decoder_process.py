"""Decode frames in one child process, so that a decoder that crashes, hangs or uses much memory costs one image.

The process is started for the first frame, serves all threads in turn, and is started again after it has ended.  It
ends with the node, which closes its input.  While it decodes a frame, the next one waits in its pipe, if that has room:
so neither process waits for the other.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections import deque
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
_BESIDE_BYTES = 1 << 13  # pipe space for each codestream besides its bytes: its header, and the rest of a page
_READY = b"R"

Write = Callable[[memoryview], object]


class Codec(IntEnum):
    """A family of decoders; the worker uses the same numbers."""

    JPEG = 1
    JPEG_LS = 2
    JPEG_2000 = 3
    RLE = 4


class _Status(IntEnum):
    """The result for a frame; the worker uses the first four."""

    DECODED = 0
    FAILED = 1
    OTHER_SHAPE = 2
    NO_MEMORY = 3
    BROKE_DOWN = 4
    NOT_STARTED = 5
    GIVEN_UP = 6


_REASONS = {
    _Status.FAILED: "its pixels cannot be decoded: the compressed data is damaged",
    _Status.OTHER_SHAPE: "its pixels cannot be decoded: their size differs from that in the Data Set",
    _Status.NO_MEMORY: "its pixels cannot be decoded: a decoder may not use that much memory here",
    _Status.BROKE_DOWN: "its pixels cannot be decoded: the decoder crashed",
    _Status.NOT_STARTED: "its decoder does not start; run: pip install --force-reinstall backup-scp[images]",
    _Status.GIVEN_UP: "its pixels are not decoded any more",
}


class Order(NamedTuple):
    """The result that a decoder must return."""

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
        """Encode the header that precedes a codestream."""
        return _ORDER.pack(self.codec, self.samples, self.bytes_per_sample, self.rows, self.columns, codestream_bytes)


class Frame:
    """One frame to decode; ``DecoderProcess.finish`` waits for its pixels."""

    def __init__(self, order: Order, codestream: bytes, write: Write, memory: memoryview) -> None:
        self.order = order
        self.codestream = codestream
        self.bytes_in_pipe = len(codestream) + _BESIDE_BYTES
        self.status: _Status | None = None
        self._write = write
        self._memory = memory

    @property
    def is_done(self) -> bool:
        """Whether its result is known."""
        return self.status is not None

    def receive(self, stream: BinaryIO) -> None:
        """Read the worker's answer; after an exception the stream is out of step."""
        number, left = _REPLY.unpack(_read_into(stream, memoryview(bytearray(_REPLY.size))))
        status = _Status(number)
        if left != (self.order.size_bytes if status is _Status.DECODED else 0):
            raise EOFError
        while left:
            part = _read_into(stream, self._memory[:left])
            self._write(part)
            left -= len(part)
        self.end(status)

    def end(self, status: _Status) -> None:
        """Set the result, if it is not known yet."""
        self.status = status if self.status is None else self.status
        self.codestream = b""
        if status is not _Status.GIVEN_UP:  # of a cancelled frame, the pixels may still arrive
            self._memory = memoryview(b"")  # Python 3.12.1 crashes when it collects a BytesIO and its view (gh-111049)

    def require_decoded(self) -> None:
        """Raise when the frame could not be decoded.

        Raises
        ------
        InstanceRefused
        """
        if self.status is not _Status.DECODED:
            raise InstanceRefused(_REASONS[self.status or _Status.BROKE_DOWN])


class DecoderProcess:
    """Decodes frames in a child process that stays alive; safe to share between threads.

    The process gets the frames in the order in which they were begun, and answers in that order.  A thread that waits
    for its frame also reads the answers before it, into the buffers of the threads that began them.  So no thread waits
    for another thread's peer, and the number of open frames is limited by what each caller has begun.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # process ID: a forked process starts its own worker
        self._capacity_bytes = 0
        self._begun: deque[Frame] = deque()
        self._asked: deque[Frame] = deque()  # sent to the process, which answers in this order
        atexit.register(self.end)

    @property
    def is_running(self) -> bool:
        """Whether the process was started and, as far as we know, has not ended."""
        return self._process is not None

    def decode(self, order: Order, codestream: bytes, write: Write) -> None:
        """Decode one frame and write it in parts of up to 1 MiB.

        Raises
        ------
        InstanceRefused
            It cannot be decoded; the next frame can.
        """
        frame = Frame(order, codestream, write, memoryview(bytearray(min(order.size_bytes, _PART_BYTES))))
        with self._lock:
            while self._asked:
                self._take()
            self._ask(frame)
            if not frame.is_done:
                self._take()
            self._ask_what_is_begun()
        frame.require_decoded()

    def begin(self, order: Order, codestream: bytes, pixels: memoryview) -> Frame:
        """Start to decode a frame into ``pixels``, without waiting; the caller must ``finish`` or ``give_up``.

        ``pixels`` is as long as the frame, and must stay valid until then.
        """
        frame = Frame(order, codestream, _ignore, pixels)
        self._begun.append(frame)
        if self._lock.acquire(blocking=False):  # otherwise the thread with the lock does this, or ``finish``
            try:
                self._ask_what_is_begun()
            finally:
                self._lock.release()
        return frame

    def finish(self, frame: Frame) -> None:
        """Wait until a frame that was begun is decoded.

        Raises
        ------
        InstanceRefused
            It cannot be decoded; the next frame can.
        """
        if not frame.is_done:
            self._wait_for(frame)
        frame.require_decoded()

    @staticmethod
    def give_up(frame: Frame) -> None:
        """Cancel a frame that is no longer needed, unless its decoding has begun."""
        frame.end(_Status.GIVEN_UP)

    def _wait_for(self, frame: Frame) -> None:
        with self._lock:
            self._ask_what_is_begun()
            while self._asked and not frame.is_done:
                self._take()
                self._ask_what_is_begun()

    def _ask_what_is_begun(self) -> None:
        """Send frames while that cannot block: if both processes wrote to a full pipe, both would wait for ever."""
        while self._begun and (not self._asked or self._has_room(self._begun[0])):
            frame = self._begun.popleft()
            if not frame.is_done and not self._ask(frame):
                self._begun.appendleft(frame)
                return

    def _has_room(self, frame: Frame) -> bool:
        frames = (*self._asked, frame)
        return sum(each.bytes_in_pipe for each in frames) <= self._capacity_bytes

    def _ask(self, frame: Frame) -> bool:
        """Send one frame; False when the process has ended, and reading the answers will show for which frame."""
        codestream = frame.codestream  # another thread may cancel the frame meanwhile
        try:
            if not self._asked:
                self._require_running()
            to_it, _ = _pipes(self._process)
            to_it.write(frame.order.encode(len(codestream)))
            to_it.write(codestream)
            to_it.flush()
        except (BrokenPipeError, EOFError, ValueError):  # ValueError: its pipes were closed
            if self._asked:
                return False
            self._end_over(frame)
        except InstanceRefused:
            frame.end(_Status.NOT_STARTED)
        except BaseException:
            self._end_over(frame)
            raise
        else:
            self._asked.append(frame)
        return True

    def _take(self) -> None:
        """Read the oldest answer that is due."""
        frame = self._asked.popleft()
        try:
            frame.receive(_pipes(self._process)[1])
        except (BrokenPipeError, EOFError, ValueError):
            self._end_over(frame)
        except BaseException:
            self._end_over(frame)  # the rest in its pipes belongs to this frame
            raise

    def _end_over(self, frame: Frame) -> None:
        frame.end(_Status.BROKE_DOWN)
        self.end()

    def _require_running(self) -> None:
        process = self._process
        if process is not None and (self._owner != os.getpid() or process.poll() is not None):
            self.end()
        if self._process is None:
            self._process, self._owner = _start(), os.getpid()
            to_it, from_it = _pipes(self._process)
            self._capacity_bytes = _enlarge(to_it.fileno())
            _enlarge(from_it.fileno())

    def end(self) -> None:
        """End the process, even while a thread waits for it; a new one gets the frames that it has not answered."""
        process, self._process = self._process, None
        while self._asked:
            self._begun.appendleft(self._asked.pop())
        if process is None:
            return
        if self._owner == os.getpid():
            process.kill()
            process.wait()
        for stream in _pipes(process):
            with contextlib.suppress(OSError):  # bytes that were not written yet are lost
                stream.close()


def _start() -> subprocess.Popen[bytes]:
    """Start the worker by its file: it imports nothing of this package, so it starts quickly."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if _pipes(process)[1].read(1) != _READY:
        process.kill()
        process.communicate()
        raise InstanceRefused(_REASONS[_Status.NOT_STARTED])
    return process


def _read_into(stream: BinaryIO, memory: memoryview) -> memoryview:
    done = 0
    while done < len(memory):
        count = stream.readinto(memory[done:])  # type: ignore[attr-defined] # typeshed's BinaryIO lacks it
        if not count:
            raise EOFError
        done += count
    return memory


def _ignore(_part: memoryview) -> None:
    """Do nothing: the pixels are in their buffer already."""


def _pipes(process: subprocess.Popen[bytes] | None) -> tuple[BinaryIO, BinaryIO]:
    if process is None:
        raise EOFError
    return cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)


def _enlarge(descriptor: int) -> int:
    """Enlarge a pipe to 1 MiB if the system allows it; return its capacity, 0 when unknown."""
    if sys.platform != "linux":
        return 0
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
