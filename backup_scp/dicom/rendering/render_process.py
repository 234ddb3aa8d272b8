"""Render images in child processes, so that hostile pixels cost one image, and never the service."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

from backup_scp.errors import InstanceRefused

_PROGRAM = Path(__file__).with_name("render_worker.py")
_HEAD = struct.Struct("<LQ")
_REPLY = struct.Struct("<BQ")
_MOST_PROCESSES = 2
_PIPE_BYTES = 1 << 20  # an image takes fewer switches between the processes

if sys.platform == "linux":
    import fcntl


class _Worker:
    """One child process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                fcntl.fcntl(cast("IO[bytes]", self._process.stdin), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        if self._from_it.read(1) != b"R":
            self.end()
            raise InstanceRefused("it cannot be rendered: run pip install --force-reinstall backup-scp[images]")

    @property
    def _from_it(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdout)

    def render(self, order: bytes, pixels: Sequence[bytes | memoryview]) -> bytes | None:
        """Return the image; None when these pixels cannot be rendered.

        Raises
        ------
        OSError, EOFError
            The process has ended.
        """
        to_it = cast("IO[bytes]", self._process.stdin)
        to_it.write(_HEAD.pack(len(order), sum(len(each) for each in pixels)) + order)
        for each in pixels:
            to_it.write(each)
        to_it.flush()
        reply = self._from_it.read(_REPLY.size)
        if len(reply) != _REPLY.size:
            raise EOFError
        status, size = _REPLY.unpack(reply)
        content = self._from_it.read(size)
        if len(content) != size:
            raise EOFError
        return content if status == 0 else None

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast("IO[bytes]", stream).close()


class _Pool:
    """A few processes, started when they are needed."""

    def __init__(self, size: int) -> None:
        self._places = threading.Semaphore(size)
        self._idle: list[_Worker] = []
        atexit.register(self.end)

    @property
    def is_running(self) -> bool:
        """Whether a process was started, and waits."""
        return bool(self._idle)

    def render(self, order: bytes, pixels: Sequence[bytes | memoryview]) -> bytes:
        with self._places:
            worker = self._idle.pop() if self._idle else _Worker()
            try:
                image = worker.render(order, pixels)
            except (OSError, EOFError):
                worker.end()
                raise InstanceRefused("it cannot be rendered: the renderer broke down over its pixels") from None
            except BaseException:
                worker.end()
                raise
            self._idle.append(worker)
        if image is None:
            raise InstanceRefused("it cannot be rendered: its pixels are not as its Data Set describes them")
        return image

    def prepare(self) -> None:
        """Start the first process."""
        with self._places, contextlib.suppress(InstanceRefused, OSError):  # told when an image is to be rendered
            if can_render() and not self._idle:
                self._idle.append(_Worker())

    def end(self) -> None:
        while self._idle:
            self._idle.pop().end()


_pool = _Pool(min(_MOST_PROCESSES, os.cpu_count() or 1))


def can_render() -> bool:
    """Tell whether the extra ``images`` is installed; this searches folders each time."""
    return find_spec("imagecodecs") is not None


@functools.cache
def prepare() -> None:
    """Start a process in the background, once: a viewer is at work, and its first image need not wait for the start."""
    threading.Thread(target=_pool.prepare, name="renderer", daemon=True).start()


def render(order: Mapping[str, Any], pixels: Sequence[bytes | memoryview]) -> bytes:
    """Render frames of one form into an image file.

    Parameters
    ----------
    order
        From ``display_of``, with ``format`` (jpeg, png, gif), ``quality``, and perhaps ``viewport`` and ``region``.
    pixels
        Of each frame.

    Raises
    ------
    InstanceRefused
        They cannot be rendered.
    """
    if not _pool.is_running and not can_render():
        raise InstanceRefused("it cannot be rendered here: run pip install backup-scp[images]")
    return _pool.render(json.dumps({**order, "frames": len(pixels)}).encode(), pixels)
