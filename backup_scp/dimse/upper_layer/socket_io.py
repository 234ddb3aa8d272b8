"""How a socket is read, written and waited for: by the system where it keeps the time, else after it was asked.

Both ways give the same: what there is, as soon as there is something, and ``TimeoutError`` where there is nothing for
too long.

Before they wait for the rest of a message both acknowledge what has come of it (``TCP_QUICKACK``).  dcmtk and what is
built on it leave Nagle's algorithm on and write a message in several pieces: the last one is not sent until the others
are acknowledged, and the system delays that by 40 ms.
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
_SYSTEM_WAITS = os.name == "posix" and struct.calcsize("@l") == 8  # with 32 bits a timeval may be one or the other
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
_DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # Windows lacks it, and uses ``Polled``
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # select() stops at descriptor 1023


class Stream(Protocol):
    """A connected socket.

    Attributes
    ----------
    socket
        The bare one.
    gathers
        Whether it takes several pieces in one write.
    """

    socket: socket.socket
    gathers: bool

    def receive(self, room: memoryview, patience_s: float) -> int:
        """Wait for at least one byte, and receive what there is; 0 at the end.

        Raises
        ------
        TimeoutError
            There was nothing.
        OSError
        """

    def receive_now(self, room: memoryview) -> int | None:
        """Receive what there is; None when that is nothing yet, 0 at the end.

        Raises
        ------
        OSError
        """

    def send(self, pieces: Sequence[Piece], patience_s: float) -> int:
        """Send what is taken of these pieces, of the first one only where it does not gather.

        Raises
        ------
        TimeoutError
            Nothing was taken; the same must be sent again.
        OSError
        """

    def wait(self, patience_s: float) -> bool:
        """Wait until ``receive_now`` is worth another try; False when it is not for so long."""


class _Acknowledging:
    """A socket that acknowledges what it has received before the rest is waited for.

    What we send acknowledges it, too: a message that came in one piece and was answered costs no system call.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._is_answered = True  # nothing was received after what we sent last

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
    """A socket whose calls block, and the system knows for how long at most: nothing is asked before a call."""

    gathers = True

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._patience_s = {socket.SO_RCVTIMEO: math.inf, socket.SO_SNDTIMEO: math.inf}  # what the system was told
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
            if len(pieces) == 1 or sys.platform == "win32":  # which has no such call, and uses ``Polled``
                return self.socket.send(pieces[0])
            return self.socket.sendmsg(pieces[:_MOST_PIECES])
        except BlockingIOError:
            raise TimeoutError from None

    def _allow(self, direction: int, patience_s: float) -> None:
        if patience_s != self._patience_s[direction]:
            microseconds = max(int(patience_s * 1e6), 1)  # with none the system waits for ever
            limit = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, direction, limit)
            self._patience_s[direction] = patience_s


class Polled(_Acknowledging):
    """A socket whose calls never block, and which is asked when there is nothing: where the system keeps no time."""

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
    """Give the way to read and write a socket that suits this system."""
    return Timed(connection) if _SYSTEM_WAITS else Polled(connection)


def _is_ready(connection: socket.socket, event: int, wait_s: float) -> bool:
    if wait_s <= 0:
        return False
    with Selector() as selector:
        selector.register(connection, event)
        return bool(selector.select(wait_s))
