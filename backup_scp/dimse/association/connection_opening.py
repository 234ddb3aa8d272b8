"""Open a connection before its Association: read the header of a proxy, and do the TLS handshake."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from backup_scp.dimse.association.access import plain_address
from backup_scp.dimse.association.rejection_notes import RejectionNotes
from backup_scp.dimse.upper_layer import Secured, SecuredSocket
from backup_scp.dimse.upper_layer.proxy_protocol import InvalidProxyHeader, read_header
from backup_scp.machine.addresses import is_loopback
from backup_scp.machine.networks import Network, address_of

_FIX_OF_HEADER = "write send-proxy-v2 for this node at the proxy, or take its address out of proxies in [node]"


class PeerAddress(NamedTuple):
    """Where a connection comes from.

    Attributes
    ----------
    address
        The caller's address; the proxy's own when it names none, or one that is good on its machine alone.
    is_proxied
        Whether it came through a proxy; then it never counts as a call of this machine.
    """

    address: str
    is_proxied: bool = False


class ConnectionOpening:
    """Opens connections; records why one cannot be opened, for the person who configures the peer.

    Parameters
    ----------
    notes
        Record it.
    """

    def __init__(self, notes: RejectionNotes) -> None:
        self._notes = notes

    def peer_address(
        self, connection: socket.socket, proxies: Sequence[Network], timeout_s: float
    ) -> PeerAddress | None:
        """Return where a connection comes from; None for a listed proxy without a valid header.

        Raises
        ------
        OSError
            The connection closed, or nothing came in time.
        """
        own = plain_address(connection.getpeername()[0])
        if not proxies or not any(address_of(own) in network for network in proxies):
            return PeerAddress(own)
        try:
            named = read_header(connection, timeout_s)
        except InvalidProxyHeader as error:
            self._notes.not_opened(own, f"it sent {error}", _FIX_OF_HEADER)
            return None
        return PeerAddress(behind(own, named), is_proxied=True)

    def secure(self, connection: SecuredSocket, address: str, timeout_s: float) -> bool:
        """Do the TLS handshake.

        Raises
        ------
        OSError
            The connection closed, or nothing came in time.
        """
        try:
            Secured(connection).do_handshake(timeout_s)
        except ssl.SSLError as error:
            self._notes.not_secured(address, error)
            return False
        self._notes.secured(address)
        return True


def behind(proxy: str, named: str | None) -> str:
    """Return the address of a caller behind a proxy.

    A loopback address is good on the proxy's machine alone: from another machine it is the proxy's own address that
    counts, lest the caller pass for one of this machine.
    """
    if named is None or (is_loopback(plain_address(named)) and not is_loopback(proxy)):
        return proxy
    return plain_address(named)
