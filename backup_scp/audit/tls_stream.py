"""A TLS connection that tells the peer's close_notify from everything else that ends one."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_PART = 1 << 16


class TLSStream:
    """Sends over a connected socket, and sees how the peer ends.

    ``ssl.SSLSocket.unwrap`` would not do: OpenSSL's SSL_shutdown takes a fatal alert, such as one that refuses our
    certificate, for the peer's close_notify.

    Parameters
    ----------
    plain
        Connected; it stays the caller's.
    context
        Of a client.
    host
        Whose certificate the peer must show.

    Raises
    ------
    OSError
        The handshake fails; ``ssl.SSLError`` is one.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._run(self._tls.do_handshake)

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises
        ------
        OSError
        """
        for start in range(0, len(data), _PART):
            self._run(partial(self._tls.write, data[start : start + _PART]))

    def read(self) -> bytes:
        """Return bytes that the peer has sent; none when it has ended by close_notify.

        Raises
        ------
        OSError
            It has ended in another way.
        """
        return self._run(partial(self._read_now, _PART))

    def finish(self) -> None:
        """Send close_notify, and return when the peer's has come.

        Raises
        ------
        OSError
            The peer has ended in another way.
        """
        with suppress(ssl.SSLWantReadError):
            if not self._read_now(1):  # what is here already: an alert raises, and SSL_shutdown would swallow it
                raise ConnectionAbortedError(errno.ECONNABORTED, "it ended the connection before we did")
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        while self.read():
            pass

    def _read_now(self, size: int) -> bytes:
        try:
            return self._tls.read(size)
        except ssl.SSLZeroReturnError:
            return b""

    def _run(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # our own alert
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._plain.sendall(data)

    def _fill(self) -> None:
        data = self._plain.recv(_PART)
        if not data:  # told to OpenSSL, Python 3.11.2 takes it for close_notify
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection ended without close_notify")
        self._incoming.write(data)
