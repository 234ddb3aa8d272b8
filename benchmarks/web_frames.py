"""Measure frames over the web: four clients fetch large ones, twenty viewers scroll; nginx serves the same bytes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks import images
from benchmarks.load import store
from benchmarks.nodes import Node, cpu_s, free_port, program
from benchmarks.table import Table

AS_STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
TURN_S, TURNS = 1.5, 9
"""Servers take short turns: a busy or virtual machine has another speed half a minute later."""

CLIENTS = 4
VIEWERS, PACE = 20, 10
"""How many viewers scroll, and how many frames a second each of them asks for."""

STORED = 30
"""DR images that are sent by C-STORE in a turn, with them or without."""

_START_S = 30.0
_BUFFER_BYTES = 1 << 20


class FrameClient:
    """One connection that receives each body into the same memory: a client that costs as little as it can."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._port = port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fetch(self, path: str, file: Path | None = None) -> int:
        """Fetch a frame as stored, perhaps into a file; return the length of its body, which must be whole."""
        request = f"GET /dicom-web{path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: {AS_STORED}\r\n\r\n"
        self._socket.sendall(request.encode())
        received = self._receive()
        head, _, begun = bytes(self._buffer[:received]).partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        size = next((int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")), None)
        if b" 200 " not in fields[0]:
            raise SystemExit(f"{path} is answered with {head[:60]!r}")
        with open(file, "wb") if file else contextlib.nullcontext() as kept:  # noqa: PTH123 - two kinds of context
            if kept:
                kept.write(begun)
            done, last = len(begun), begun[-5:]
            while done < size if size is not None else last != b"0\r\n\r\n":
                received = self._receive()
                done += received
                if kept:
                    kept.write(self._buffer[:received])
                last = (last + bytes(self._buffer[max(0, received - 5) : received]))[-5:]
        return done

    def _receive(self) -> int:
        received = self._socket.recv_into(self._buffer)
        if not received:
            raise SystemExit("the server has closed the connection")
        return received


def instance_path(instance: images.Instance) -> str:
    """Return the path of an instance."""
    return f"/studies/{instance.study}/series/{instance.study}.1/instances/{instance.sop_instance}"


class Server(NamedTuple):
    """What is asked for frames, and what lists its processes."""

    name: str
    port: int
    processes: Callable[[], list[int]]

    def cpu_s(self) -> float:
        """Return the processor seconds that it has taken, by the clock of each process: samples miss short steps."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.processes())  # as clock_getcpuclockid(3)


class Fetched(NamedTuple):
    """Frames a second, and milliseconds of processor time for each."""

    rate: float
    server_ms: float
    client_ms: float


@contextlib.contextmanager
def nginx(folder: Path, port: int, paths: Sequence[str]) -> Iterator[Server]:
    """Serve the bodies that a node at ``port`` answers these paths with, as files.

    Its settings are Debian's, but for the address and the logs.
    """
    root, served = folder / "root", free_port()
    with FrameClient(port) as client:
        for path in paths:
            file = root / f"dicom-web{path}"
            file.parent.mkdir(parents=True)
            client.fetch(path, file)
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; worker_processes auto; "
        f"pid {folder}/pid; error_log {folder}/log; events {{ worker_connections 768; }} "
        "http { sendfile on; tcp_nopush on; types_hash_max_size 2048; access_log off; "
        f"client_body_temp_path {folder}/body; server {{ listen 127.0.0.1:{served}; root {root}; }} }}"
    )
    process = subprocess.Popen([program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")])  # noqa: S603
    try:
        until = time.perf_counter() + _START_S
        while time.perf_counter() < until:
            with contextlib.suppress(OSError), FrameClient(served):
                break
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
        yield Server("nginx", served, lambda: [process.pid, *map(int, children)])
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root)


def fetched(server: Server, paths: Sequence[str], *, same: bool, seconds: float = TURN_S) -> Fetched:
    """Fetch frames as four clients at once.

    Parameters
    ----------
    same
        Whether all begin with the same frame; otherwise each is as far from the others as it can be.
    """

    def fetch(first: int) -> int:
        with FrameClient(server.port) as client:
            for done in itertools.count():
                if time.perf_counter() - began >= seconds:
                    return done
                client.fetch(paths[(first + done) % len(paths)])
        raise AssertionError

    firsts = [0 if same else client * len(paths) // CLIENTS for client in range(CLIENTS)]
    before, own, began = server.cpu_s(), time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = sum(pool.map(fetch, firsts))
    passed = time.perf_counter() - began
    return Fetched(done / passed, (server.cpu_s() - before) / done * 1000, (time.process_time() - own) / done * 1000)


def large_frames(table: Table, nodes: Sequence[Server], shots: Sequence[images.Instance], folder: Path) -> None:
    """Fetch DR frames as stored from the nodes, and from nginx the same bytes as files; the first node is ours."""
    paths = [f"{instance_path(shot)}/frames/1" for shot in shots]
    with contextlib.ExitStack() as stack:
        servers = list(nodes)
        if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
            servers.append(stack.enter_context(nginx(folder, nodes[0].port, paths)))
        for turn in range(TURNS):
            for same, asked in ((False, "each its own"), (True, "all the same")):
                work = f"DR frames as stored, 4 clients, {asked}"
                found = {
                    server.name: fetched(server, paths, same=same)
                    for server in (servers if turn % 2 else reversed(servers))
                }
                _add(table, work, nodes[0].name, found)


def _add(table: Table, work: str, ours: str, found: dict[str, Fetched]) -> None:
    """Add one turn; what is compared with nginx is compared within it."""
    for name, each in found.items():
        table.add(f"{work}, frames/s", name, each.rate, "3")
        table.add(f"{work}: CPU of the server, ms", name, each.server_ms)
        table.add(f"{work}: CPU of server and client, ms", name, each.server_ms + each.client_ms)
        if name == ours and "nginx" in found:
            table.add(f"{work}: of nginx", name, each.rate / found["nginx"].rate, "0.8")


class _Turn(NamedTuple):
    """What C-STORE was in one turn: images and frames a second, and the cores that viewers and node have used."""

    images: float
    frames: float = 0.0
    viewers_cores: float = 0.0
    node_cores: float = 0.0


def stored_while_viewed(table: Table, node: Node, port: int, slices: Sequence[images.Instance]) -> None:
    """C-STORE of DR on one Association, alone and while viewers scroll through CT slices at their pace.

    A machine may change its speed at any time: so each turn is short, and is compared with the one beside it.
    """
    paths = [f"{instance_path(one)}/frames/1" for one in slices]
    first, second, third, fourth = (_turn(node, port, paths if is_viewed else []) for is_viewed in (0, 1, 1, 0))
    for alone, viewed in ((first, second), (fourth, third)):
        table.add("C-STORE of DR alone, images/s", node.name, alone.images)
        table.add(f"C-STORE of DR while {VIEWERS} viewers scroll, images/s", node.name, viewed.images)
        table.add("so much of alone", node.name, viewed.images / alone.images, "0.9")
        table.add(f"CT frames for them meanwhile, of {VIEWERS * PACE} asked a second", node.name, viewed.frames)
        table.add("cores that the viewers themselves use", node.name, viewed.viewers_cores)
        table.add("cores that the node uses for C-STORE and viewers", node.name, viewed.node_cores)
        table.add("cores that it uses for C-STORE alone", node.name, alone.node_cores)


def _turn(node: Node, port: int, paths: Sequence[str]) -> _Turn:
    sent = images.new(images.DR, STORED)
    with _viewers(port, paths) if paths else contextlib.nullcontext() as viewers:
        before = (*viewers.so_far(), node.cpu_s()) if viewers else (0, 0.0, node.cpu_s())
        began = time.perf_counter()
        rate = store(node.address, sent, 1).rate
        passed = time.perf_counter() - began
        after = (*viewers.so_far(), node.cpu_s()) if viewers else (0, 0.0, node.cpu_s())
    return _Turn(rate, *((late - early) / passed for early, late in zip(before, after, strict=True)))


class _Viewers:
    """Viewers that scroll in a process of their own."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        fork = multiprocessing.get_context("fork")
        self._fetched = fork.Array("q", VIEWERS)
        self._process = fork.Process(target=_scroll, args=(port, paths, self._fetched))

    def so_far(self) -> tuple[int, float]:
        """Return the frames that they have fetched, and the CPU seconds that they have used."""
        return sum(self._fetched[:]), cpu_s(self._process.pid or 0)

    def start(self) -> None:
        """Start them, and return when each has a frame."""
        self._process.start()
        while not all(self._fetched[:]) and self._process.is_alive():
            time.sleep(0.01)

    def end(self) -> None:
        """End them."""
        self._process.kill()
        self._process.join()


@contextlib.contextmanager
def _viewers(port: int, paths: Sequence[str]) -> Iterator[_Viewers]:
    viewers = _Viewers(port, paths)
    viewers.start()
    try:
        yield viewers
    finally:
        viewers.end()


def _scroll(port: int, paths: Sequence[str], fetched: Any) -> None:
    """Each viewer asks for the next slice when its time has come and the last one is there."""

    def scroll(number: int) -> None:
        with FrameClient(port) as client:
            next_at = time.perf_counter() + number / VIEWERS / PACE
            for path in itertools.islice(itertools.cycle(paths), number * 37, None):
                time.sleep(max(0.0, next_at - time.perf_counter()))
                client.fetch(path)
                fetched[number] += 1
                next_at = max(next_at + 1 / PACE, time.perf_counter())

    with ThreadPoolExecutor(VIEWERS) as pool:
        list(pool.map(scroll, range(VIEWERS)))
