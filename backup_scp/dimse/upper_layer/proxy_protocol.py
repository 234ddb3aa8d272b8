"""Read the header that a proxy puts before a connection: PROXY protocol version 2 (docs/adr/0083).

https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, section 2.2.  Version 1 is text, and is refused.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time

from backup_scp.dimse.upper_layer.socket_io import Stream, bare_stream

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_1 = b"PROXY "
_HEAD = struct.Struct(">12xBBH")  # signature, version and command, family and protocol, length of the rest
_LOCAL, _PROXY = 0x20, 0x21
_TCP_OVER_IPV4, _TCP_OVER_IPV6 = 0x11, 0x21
_ADDRESS_BYTES = {_TCP_OVER_IPV4: 4, _TCP_OVER_IPV6: 16}  # of source and destination each; two ports follow
_PORTS_BYTES = 4
_LONGEST = 4096  # TLVs with certificates are longer; what a connection is admitted by must not be


class InvalidProxyHeader(ValueError):  # noqa: N818 - not an error of ours
    """There is no header, or a wrong one; the text ends a sentence that begins with "it sent"."""


def read_header(connection: socket.socket, timeout_s: float) -> str | None:
    """Read a header, and no byte behind it.

    Returns
    -------
    str or None
        The caller's address; None for a call of the proxy itself, and where the proxy knows none.

    Raises
    ------
    InvalidProxyHeader
    ConnectionError
        The connection closed before its first byte, as the test of a proxy whether the port is open does.
    TimeoutError
    OSError
    """
    stream, until = bare_stream(connection), time.monotonic() + timeout_s
    head = _received(stream, _HEAD.size, until)
    if not head:
        raise ConnectionError
    command, family, length = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
    if not head.startswith(SIGNATURE[: len(head)]):
        raise InvalidProxyHeader(_named(head))
    if len(head) < _HEAD.size:
        raise InvalidProxyHeader(f"{len(head)} bytes of a PROXY protocol header, and closed the connection")
    if command not in (_LOCAL, _PROXY):
        raise InvalidProxyHeader(f"a PROXY protocol header of version and command 0x{command:02X}")
    if length > _LONGEST:
        raise InvalidProxyHeader(f"a PROXY protocol header of {length} bytes")
    rest = _received(stream, length, until)
    if len(rest) < length:
        raise InvalidProxyHeader("a PROXY protocol header that ends early")
    size = _ADDRESS_BYTES.get(family) if command == _PROXY else None
    if size is None:
        return None
    if length < 2 * size + _PORTS_BYTES:
        raise InvalidProxyHeader(f"a PROXY protocol header with {length} bytes for its addresses")
    return str(ipaddress.ip_address(rest[:size]))


def _received(stream: Stream, count: int, until: float) -> bytes:
    """Receive so many bytes; fewer when the connection closes before."""
    room = memoryview(bytearray(count))
    got = 0
    while got < count:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        received = stream.receive(room[got:], left_s)
        if not received:
            break
        got += received
    return bytes(room[:got])


def _named(head: bytes) -> str:
    if head.startswith(_VERSION_1):
        return "a header of version 1 of the PROXY protocol"
    return "no PROXY protocol header, and its address is one of proxies"
