"""One kept process that decodes frames, so that a decoder which crashes, hangs or eats memory costs one image.

It is started when the first frame comes, serves all threads in turn, and is started anew after it has ended.  It ends
with the node: its input is closed then.  It has the next frame at hand while it decodes one, where the pipe to it has
room: then neither waits for the other.
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
_BESIDE_BYTES = 1 << 13  # of a pipe, for each codestream: its header, and the rest of a page
_READY = b"R"

Write = Callable[[memoryview], object]


class Codec(IntEnum):
    """A family of decoders; the worker knows them by these numbers."""

    JPEG = 1
    JPEG_LS = 2
    JPEG_2000 = 3
    RLE = 4


class _Status(IntEnum):
    """What became of a frame; the worker knows the first four."""

    DECODED = 0
    FAILED = 1
    OTHER_SHAPE = 2
    NO_MEMORY = 3
    BROKE_DOWN = 4
    NOT_STARTED = 5
    GIVEN_UP = 6


_REASONS = {
    _Status.FAILED: "its pixels cannot be decoded: the compressed data is damaged",
    _Status.OTHER_SHAPE: "its pixels cannot be decoded: they come out in another shape than the Data Set says",
    _Status.NO_MEMORY: "its pixels cannot be decoded: that takes more memory than a decoder is given here",
    _Status.BROKE_DOWN: "its pixels cannot be decoded: the decoder broke down over them",
    _Status.NOT_STARTED: "its decoder does not start; run: pip install --force-reinstall backup-scp[images]",
    _Status.GIVEN_UP: "its pixels are not decoded any more",
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


class Frame:
    """One frame that is to be decoded; ``DecoderProcess.finish`` waits for its pixels."""

    def __init__(self, order: Order, codestream: bytes, write: Write, memory: memoryview) -> None:
        self.order = order
        self.codestream = codestream
        self.bytes_in_pipe = len(codestream) + _BESIDE_BYTES
        self.status: _Status | None = None
        self._write = write
        self._memory = memory

    @property
    def is_done(self) -> bool:
        """Whether it is known what became of it."""
        return self.status is not None

    def receive(self, stream: BinaryIO) -> None:
        """Take the answer; anything raised leaves the stream out of step."""
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
        """Note what became of it, if that is not known yet."""
        self.status = status if self.status is None else self.status
        self.codestream = b""

    def require_decoded(self) -> None:
        """Raise what kept it from being decoded.

        Raises
        ------
        InstanceRefused
        """
        if self.status is not _Status.DECODED:
            raise InstanceRefused(_REASONS[self.status or _Status.BROKE_DOWN])


class DecoderProcess:
    """Decodes frames in a child process that is kept; any thread may call.

    Frames are asked of the process in the order in which they were begun, and answered in that order.  A thread that
    waits for its own takes the answers before it too, into the memory of those that have begun them.  So nobody waits
    for another's peer, and what is under way is bounded by what each caller has begun.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a process that was forked from this one starts its own
        self._capacity_bytes = 0
        self._begun: deque[Frame] = deque()
        self._asked: deque[Frame] = deque()  # of the process; their answers come in this order
        atexit.register(self.end)

    @property
    def is_running(self) -> bool:
        """Whether it was started and, as far as is known, has not ended."""
        return self._process is not None

    def decode(self, order: Order, codestream: bytes, write: Write) -> None:
        """Decode one frame and hand it on in parts of up to 1 MiB.

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
        """Let a frame be decoded into this memory, and do not wait for it; the caller must ``finish`` or ``give_up``.

        ``pixels`` is as long as the frame, and must stay until then.
        """
        frame = Frame(order, codestream, _ignore, pixels)
        self._begun.append(frame)
        if self._lock.acquire(blocking=False):  # else whoever has it sees to it, at the latest ``finish``
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
        """Do not decode a frame that nobody wants any more, unless that has begun."""
        frame.end(_Status.GIVEN_UP)

    def _wait_for(self, frame: Frame) -> None:
        with self._lock:
            self._ask_what_is_begun()
            while self._asked and not frame.is_done:
                self._take()
                self._ask_what_is_begun()

    def _ask_what_is_begun(self) -> None:
        """Ask for frames as long as that cannot block: the process may be writing while this one does."""
        while self._begun and (not self._asked or self._has_room(self._begun[0])):
            frame = self._begun.popleft()
            if not frame.is_done and not self._ask(frame):
                self._begun.appendleft(frame)
                return

    def _has_room(self, frame: Frame) -> bool:
        frames = (*self._asked, frame)
        return sum(each.bytes_in_pipe for each in frames) <= self._capacity_bytes

    def _ask(self, frame: Frame) -> bool:
        """Hand one frame over; False when the process has ended, and taking the answers will tell over which one."""
        codestream = frame.codestream  # it may be given up meanwhile
        try:
            if not self._asked:
                self._require_running()
            to_it, _ = _pipes(self._process)
            to_it.write(frame.order.encode(len(codestream)))
            to_it.write(codestream)
            to_it.flush()
        except (BrokenPipeError, EOFError, ValueError):  # the last when its pipes were closed
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
        """Take the oldest answer that is due."""
        frame = self._asked.popleft()
        try:
            frame.receive(_pipes(self._process)[1])
        except (BrokenPipeError, EOFError, ValueError):
            self._end_over(frame)
        except BaseException:
            self._end_over(frame)  # what is left in its pipes belongs to no other frame
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
        """End the process, also under somebody who waits for it; another is started for what it was asked."""
        process, self._process = self._process, None
        while self._asked:
            self._begun.appendleft(self._asked.pop())
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
    """Do nothing: the pixels are where they should be."""


def _pipes(process: subprocess.Popen[bytes] | None) -> tuple[BinaryIO, BinaryIO]:
    if process is None:
        raise EOFError
    return cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)


def _enlarge(descriptor: int) -> int:
    """Let a pipe hold 1 MiB where the system allows it, and return what it holds; 0 where nobody can say."""
    if sys.platform != "linux":
        return 0
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
