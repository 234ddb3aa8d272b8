"""The threads of Associations: which one serves a connection, and how they end."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from backup_scp.dimse.association import association_threads
from backup_scp.dimse.association.association_threads import ThreadPool
from tests.processes import wait_until


class Callers:
    """Connections to a pool whose threads read one byte of each; ``served`` has the thread of each."""

    def __init__(self) -> None:
        self.pool = ThreadPool(self._serve, 16)
        self.served: dict[socket.socket, threading.Thread] = {}
        self._peers: dict[socket.socket, socket.socket] = {}

    def _serve(self, connection: socket.socket) -> None:
        self.served[connection] = threading.current_thread()
        connection.recv(1)
        connection.close()

    def call(self) -> socket.socket:
        """Give the pool a connection, and wait until a thread serves it."""
        connection, peer = socket.socketpair()
        try:
            self.pool.submit(connection)
        except RuntimeError:
            connection.close()
            peer.close()
            raise
        self._peers[connection] = peer
        wait_until(lambda: connection in self.served)
        return connection

    def end(self, connection: socket.socket) -> None:
        """Let a connection end, and wait until its thread is spare or has ended."""
        spare = len(self.pool._spare)
        self._peers.pop(connection).close()
        thread = self.served[connection]
        wait_until(lambda: len(self.pool._spare) > spare or not thread.is_alive())

    def end_all(self) -> None:
        for connection in list(self._peers):
            self.end(connection)
        self.pool.stop()
        self.pool.join(time.monotonic() + 10)


@pytest.fixture
def callers():
    callers = Callers()
    yield callers
    callers.end_all()


def test_the_thread_that_became_spare_last_serves_the_next(callers):
    first, second = callers.call(), callers.call()
    for connection in (second, first):
        callers.end(connection)
    assert callers.served[callers.call()] is callers.served[first]
    assert callers.served[callers.call()] is callers.served[second]


def test_a_few_threads_stay_spare_and_the_others_end(callers):
    connections = [callers.call() for _ in range(association_threads._MOST_SPARE + 2)]
    for connection in connections:
        callers.end(connection)
    threads = [callers.served[connection] for connection in connections]
    wait_until(lambda: sum(thread.is_alive() for thread in threads) == association_threads._MOST_SPARE)


def test_there_is_a_limit(callers):
    for _ in range(16):
        callers.call()
    with pytest.raises(RuntimeError, match="too many threads"):
        callers.call()


def test_stop_ends_the_spare_threads_and_those_at_work_after_their_connection(callers):
    spare, at_work = callers.call(), callers.call()
    callers.end(spare)
    callers.pool.stop()
    wait_until(lambda: not callers.served[spare].is_alive())
    assert callers.served[at_work].is_alive()
    callers.end(at_work)
    callers.pool.join(time.monotonic() + 10)
    assert not callers.served[at_work].is_alive()
