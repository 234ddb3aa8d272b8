"""A TCP proxy that adds a network's latency: ``python -m benchmarks.distance PORT SERVER_PORT ROUND_TRIP_MS``.

What comes in one piece after the other is delayed as on a wire, and not once for each piece.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.nodes import free_port

_LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def running(server_port: int, round_trip_ms: float) -> Iterator[int]:
    """Run one in a process of its own; yield its port."""
    port = free_port()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "benchmarks.distance", str(port), str(server_port), str(round_trip_ms)]
    )
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((_LOOPBACK, port)):
                break
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


def _pass_on(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    """Pass on what comes, each piece so long after it came."""
    pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def receive() -> None:
        piece = b"more"
        while piece:
            try:
                piece = source.recv(1 << 16)
            except OSError:
                piece = b""
            pieces.put((time.perf_counter() + delay_s, piece))

    threading.Thread(target=receive, daemon=True).start()
    with contextlib.suppress(OSError):
        while True:
            due, piece = pieces.get()
            time.sleep(max(0.0, due - time.perf_counter()))
            if not piece:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(piece)


def main() -> None:
    """Run from the command line."""
    port, server_port, delay_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 2000
    with socket.create_server((_LOOPBACK, port)) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((_LOOPBACK, server_port))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for way in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(*way, delay_s), daemon=True).start()


if __name__ == "__main__":
    main()
