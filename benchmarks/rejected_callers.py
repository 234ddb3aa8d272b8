"""Measure single stores beside callers that are rejected, for this node and another version: ``--beside CHECKOUT``.

Each store is a run of dcmtk's ``storescu`` with one image, as a console sends one.  The callers ask for an AE title
that is not the node's, again and again, from a process of their own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks import images
from benchmarks.dimse import item, pdu
from benchmarks.images import CT
from benchmarks.nodes import BackupSCP, Place, program
from benchmarks.two_versions import TwoVersions, parser

_LONGEST_S = 90.0
_A_ASSOCIATE_RQ = 1


class RejectedCallers(TwoVersions):
    """Stores while nobody else calls, and beside callers that are rejected."""

    def __init__(self, folder: Path, beside: Path | None, callers: int, stores: int) -> None:
        super().__init__(folder, beside)
        self._callers, self._stores = callers, stores
        self.refused = 0

    def measure(self, column: str, folder: Path, checkout: Path | None) -> None:
        """Measure one version."""
        node = BackupSCP(Place(folder / "node", checkout=checkout))
        try:
            node.start()
            self._store(node, folder / "warming", 5)
            quiet = self._store(node, folder / "quiet", self._stores)
            node.forget_peak()
            self.refused = 0
            with _calling(node.address.port, self._callers), _watched(node) as threads:
                beside = self._store(node, folder / "beside", self._stores)
            peak_mb = node.peak_mb()
        finally:
            node.stop()
        add = self.table.add
        add("store, quiet: median, ms", column, statistics.median(quiet) * 1e3)
        add("store, quiet: slowest, ms", column, max(quiet) * 1e3)
        add(f"store beside {self._callers} rejected callers: median, ms", column, statistics.median(beside) * 1e3)
        add(f"store beside {self._callers} rejected callers: slowest, ms", column, max(beside) * 1e3)
        add("slowest beside them / slowest quiet", column, max(beside) / max(quiet), "at most 3")
        add("stores that were refused", column, self.refused, "0")
        add("threads at most", column, max(threads), "below 100")
        add("memory at most, MB", column, peak_mb)

    def _store(self, node: BackupSCP, folder: Path, count: int) -> list[float]:
        """Store images one by one, for some time at most; give the seconds that each took."""
        folder.mkdir(parents=True)
        seconds, until = [], time.perf_counter() + _LONGEST_S
        for number, instance in enumerate(images.new(CT, count)):
            file = folder / f"{number}.dcm"
            file.write_bytes(b"".join(instance.parts))
            began = time.perf_counter()
            argv = [program("storescu"), "-xe", "-aec", node.ae_title, "127.0.0.1", str(node.address.port), str(file)]
            self.refused += subprocess.run(argv, check=False, capture_output=True).returncode != 0  # noqa: S603
            seconds.append(time.perf_counter() - began)
            if time.perf_counter() > until:
                break
        return seconds


@contextlib.contextmanager
def _calling(port: int, callers: int) -> Iterator[None]:
    """Call in vain, meanwhile."""
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    process = context.Process(target=_call, args=(port, callers, done))
    process.start()
    try:
        yield
    finally:
        done.set()
        process.join()


def _call(port: int, callers: int, done: Event) -> None:
    request = struct.pack(">Hxx16s16s32x", 1, b"NOT_US".ljust(16), b"IMPATIENT".ljust(16))
    request += item(0x10, b"1.2.840.10008.3.1.1.1")
    request += item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    encoded = pdu(_A_ASSOCIATE_RQ, request + item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3")))

    def run() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as connected:
                connected.sendall(encoded)
                connected.recv(16)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def _watched(node: BackupSCP) -> Iterator[list[int]]:
    """Count the node's threads, meanwhile."""
    counts, done = [0], threading.Event()

    def run() -> None:
        while not done.wait(0.05):
            counts.append(sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in node.processes()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, repeat=1)
    options.add_argument("--callers", type=int, default=8)
    options.add_argument("--stores", type=int, default=50)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measuring = RejectedCallers(Path(folder), arguments.beside, arguments.callers, arguments.stores)
        measuring.run(arguments.repeat)
    print(f"\n{measuring.table.markdown('single CT images')}")


if __name__ == "__main__":
    main()
