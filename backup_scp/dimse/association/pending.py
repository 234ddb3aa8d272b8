"""Limit the connections that have not requested an Association yet, in total and for one peer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

MOST = 128
MOST_OF_ONE_PEER = 32


class PendingConnections:
    """Holds the silent connections by peer, oldest first; the caller holds a lock.

    When there are too many, the oldest one of the peer over its limit goes, else that of the peer with most.  So a
    caller that connects a thousand times a second displaces its own connections, not that of a console.
    """

    def __init__(self) -> None:
        self._by_peer: dict[str, dict[socket.socket, None]] = {}
        self._peer_of: dict[socket.socket, str] = {}

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(tuple(self._peer_of))

    def __len__(self) -> int:
        return len(self._peer_of)

    def add(self, connection: socket.socket, peer: str) -> socket.socket | None:
        """Add a connection; return the one to close for it, if any."""
        self._peer_of[connection] = peer
        of_this_peer = self._by_peer.setdefault(peer, {})
        of_this_peer[connection] = None
        if len(of_this_peer) > MOST_OF_ONE_PEER:
            return self._remove_oldest(of_this_peer)
        if len(self._peer_of) > MOST:
            return self._remove_oldest(max(self._by_peer.values(), key=len))
        return None

    def discard(self, connection: socket.socket) -> None:
        """Remove a connection that has become an Association or has ended."""
        peer = self._peer_of.pop(connection, None)
        if peer is not None:
            of_this_peer = self._by_peer[peer]
            del of_this_peer[connection]
            if not of_this_peer:
                del self._by_peer[peer]

    def _remove_oldest(self, of_one_peer: dict[socket.socket, None]) -> socket.socket:
        oldest = next(iter(of_one_peer))
        self.discard(oldest)
        return oldest
