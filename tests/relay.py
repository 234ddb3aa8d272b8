"""A relay between client and server that causes faults of a network or a server."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.processes import LOOPBACK


class Relay:
    """Stands before a server, and counts how often a client asks it something and waits for the answer."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.trips = 0
        self.keeps_back = b""  # an answer that has this is lost, with its connection
        self.swallows = False  # what a client sends, and nothing is ever answered
        self._sockets = [self._listener]

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                is_asking = threading.Event()
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink, is_asking, client), daemon=True).start()

    def _pass_on(self, source, sink, is_asking, client):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if source is not client:
                    is_asking.clear()
                    if self.keeps_back and self.keeps_back in data:
                        self.keeps_back = b""
                        client.shutdown(socket.SHUT_RDWR)
                        return
                elif self.swallows:
                    continue
                elif not is_asking.is_set():
                    is_asking.set()
                    self.trips += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
