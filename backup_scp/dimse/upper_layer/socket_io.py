"""Read and write sockets with timeouts: SO_RCVTIMEO and SO_SNDTIMEO where the system has them, poll() elsewhere.

Both ways behave the same: they return the bytes that are there, as soon as there are some, and raise ``TimeoutError``
when nothing comes in time.

Before they wait for the rest of a message, both acknowledge the part that has come (``TCP_QUICKACK``).  dcmtk and
programs built on it leave Nagle's algorithm on and write a message in several pieces: the last one is not sent until
the others are acknowledged, and the system delays that by 40 ms.
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from backup_scp.dimse.upper_layer.p_data import Piece

_MOST_PIECES = 1024  # in one write: IOV_MAX of Linux and macOS
_TIMEVAL = struct.Struct("@qq")  # seconds and microseconds
_SYSTEM_WAITS = os.name == "posix" and struct.calcsize("@l") == 8  # on 32 bits, timeval has one of two formats
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # only Linux has it
_DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # Windows lacks it and uses ``Polled``
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # select() is limited to descriptors below 1024


class Stream(Protocol):
    """A connected socket.

    Attributes
    ----------
    socket
        The socket.
    gathers
        Whether it can send several pieces in one write.
    """

    socket: socket.socket
    gathers: bool

    def receive(self, room: memoryview, patience_s: float) -> int:
        """Wait for at least one byte, and receive what is there; 0 at the end.

        Raises
        ------
        TimeoutError
            Nothing came in time.
        OSError
        """

    def receive_now(self, room: memoryview) -> int | None:
        """Receive what is there, without waiting; None when there is nothing, 0 at the end.

        Raises
        ------
        OSError
        """

    def send(self, pieces: Sequence[Piece], patience_s: float) -> int:
        """Send as much of these pieces as the system takes; without ``gathers``, only of the first piece.

        Raises
        ------
        TimeoutError
            Nothing was taken; the caller must send the same again.
        OSError
        """

    def wait(self, patience_s: float) -> bool:
        """Wait until ``receive_now`` can succeed; False when the time is over."""


class _Acknowledging:
    """A socket that acknowledges received bytes before it waits for the rest.

    Sending acknowledges too, so a message that came in one piece and was answered costs no extra system call.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._is_answered = True  # nothing was received since we last sent something

    def wait(self, patience_s: float) -> bool:
        if not self._is_answered:
            self._acknowledge()
        return _is_ready(self.socket, selectors.EVENT_READ, patience_s)

    def _acknowledge(self) -> None:
        if _QUICKACK is not None and self._is_tcp:
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    @cached_property
    def _is_tcp(self) -> bool:
        return self.socket.family in (socket.AF_INET, socket.AF_INET6)


class Timed(_Acknowledging):
    """A blocking socket with the system's timeouts, so that no poll() is needed before a call."""

    gathers = True

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._patience_s = {socket.SO_RCVTIMEO: math.inf, socket.SO_SNDTIMEO: math.inf}  # the timeouts that are set
        if connection.gettimeout() is not None:
            connection.settimeout(None)

    def receive(self, room: memoryview, patience_s: float) -> int:
        if not self._is_answered:
            self._acknowledge()
        self._allow(socket.SO_RCVTIMEO, patience_s)
        try:
            count = self.socket.recv_into(room)
        except BlockingIOError:
            raise TimeoutError from None
        self._is_answered = False
        return count

    def receive_now(self, room: memoryview) -> int | None:
        try:
            count = self.socket.recv_into(room, 0, _DONTWAIT)
        except BlockingIOError:
            return None
        self._is_answered = False
        return count

    def send(self, pieces: Sequence[Piece], patience_s: float) -> int:
        self._allow(socket.SO_SNDTIMEO, patience_s)
        self._is_answered = True
        try:
            if len(pieces) == 1 or sys.platform == "win32":  # Windows has no sendmsg(), and uses ``Polled``
                return self.socket.send(pieces[0])
            return self.socket.sendmsg(pieces[:_MOST_PIECES])
        except BlockingIOError:
            raise TimeoutError from None

    def _allow(self, direction: int, patience_s: float) -> None:
        if patience_s != self._patience_s[direction]:
            microseconds = max(int(patience_s * 1e6), 1)  # 0 would mean no timeout
            limit = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, direction, limit)
            self._patience_s[direction] = patience_s


class Polled(_Acknowledging):
    """A non-blocking socket that waits with poll(), for systems without timeouts of sockets."""

    gathers = False

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        connection.settimeout(0)

    def receive(self, room: memoryview, patience_s: float) -> int:
        until = time.monotonic() + patience_s
        while (count := self.receive_now(room)) is None:
            if not self.wait(until - time.monotonic()):
                raise TimeoutError
        return count

    def receive_now(self, room: memoryview) -> int | None:
        try:
            count = self.socket.recv_into(room)
        except BlockingIOError:
            return None
        self._is_answered = False
        return count

    def send(self, pieces: Sequence[Piece], patience_s: float) -> int:
        until = time.monotonic() + patience_s
        self._is_answered = True
        while True:
            try:
                return self.socket.send(pieces[0])
            except BlockingIOError:
                if not _is_ready(self.socket, selectors.EVENT_WRITE, until - time.monotonic()):
                    raise TimeoutError from None


def bare_stream(connection: socket.socket) -> Stream:
    """Return the stream for a socket without TLS on this system."""
    return Timed(connection) if _SYSTEM_WAITS else Polled(connection)


def _is_ready(connection: socket.socket, event: int, wait_s: float) -> bool:
    if wait_s <= 0:
        return False
    with Selector() as selector:
        selector.register(connection, event)
        return bool(selector.select(wait_s))
