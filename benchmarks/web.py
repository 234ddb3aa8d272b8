"""Measure DICOMweb beside Orthanc with its plugin: both hold the same images, and both are asked over loopback.

    python -m benchmarks.web --studies 50000

Orthanc listens on all addresses, whatever its settings say: where this runs as root on Linux, it runs in a network
namespace of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import images, web_frames
from benchmarks.load import store
from benchmarks.nodes import BackupSCP, Node, Orthanc, Place, free_port
from benchmarks.table import Table
from benchmarks.web_store import stow_rate

SECONDS = 5.0
ROUNDS = 3
HEADER = images.Kind("header", "1.2.840.10008.5.1.4.1.1.7", "OT", 2, 2, bytes_a_pixel=1)
"""An image that is nearly only its header: a study each."""

CT_STUDY = images.Kind("CT", images.CT.sop_class, "CT", 512, 512, in_study=1000)
PAGE = images.Kind("CR", "1.2.840.10008.5.1.4.1.1.1", "CR", 1500, 1200)
DICOM_JSON = "application/dicom+json"

_CLONE_NEWNET = 0x40000000
_PLUGIN = "libOrthancDicomWeb.so"
_PLUGINS = Path("/usr/share/orthanc/plugins")


class WebOrthanc(Orthanc):
    """Orthanc with its web server and the DICOMweb plugin, which answers with all metadata (StudiesMetadata: Full)."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.web_port = free_port()

    def argv(self) -> list[str]:
        """Write its configuration; give the command that starts it."""
        argv = super().argv()
        file = Path(argv[-1])
        settings = json.loads(file.read_text()) | {
            "HttpServerEnabled": True,
            "HttpPort": self.web_port,
            "HttpThreadsCount": 50,
            "KeepAlive": True,
            "TcpNoDelay": True,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": False,
            "Plugins": [str(_PLUGINS / _PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
        }
        file.write_text(json.dumps(settings))
        return argv


class WebBackupSCP(BackupSCP):
    """The node that is measured, with DICOMweb."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.web_port = free_port()

    def environment(self) -> dict[str, str]:
        """Give its settings."""
        web = {"BACKUP_SCP_WEB__ENABLED": "true", "BACKUP_SCP_WEB__PORT": str(self.web_port)}
        return super().environment() | web

    def web_peak_mb(self) -> float:
        """Return the most memory that its web process has had, in MB."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if b"web_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    status = Path(f"/proc/{pid}/status").read_text("utf-8")
                    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        return 0.0


class Client:
    """One connection that costs less than the servers that it asks."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = port
        self._first_at = 0.0

    def first_byte_s(self, path: str) -> float:
        """Return how long the first byte of an answer's body takes, in seconds; receive the rest."""
        began = time.perf_counter()
        self.get(path)
        return self._first_at - began

    def get(self, path: str, accept: str = DICOM_JSON) -> bytes:
        """Return the body of an answer, which must be 200."""
        request = f"GET /dicom-web{path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: {accept}\r\n\r\n"
        self._socket.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        if b" 200 " not in fields[0]:
            raise SystemExit(f"{path} is answered with {head[:60]!r}")
        body = body or self._receive()
        self._first_at = time.perf_counter()
        length = next((int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")), None)
        parts = [body]
        if length is not None:
            missing = length - len(body)
            while missing > 0:
                parts.append(self._receive())
                missing -= len(parts[-1])
            return b"".join(parts)
        while not parts[-1].endswith(b"0\r\n\r\n"):
            parts.append(self._receive())
        return b"".join(parts)

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 20)
        if not received:
            raise SystemExit("the server has closed the connection")
        return received

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


Served = WebOrthanc | WebBackupSCP


def measured(node: Served, paths: Sequence[str], seconds: float = SECONDS) -> tuple[float, float]:
    """Return requests a second, and the milliseconds of processor time that the server takes for each."""
    before, began = node.cpu_s(), time.perf_counter()
    per_second = rate(node.web_port, paths, seconds)
    done = per_second * (time.perf_counter() - began)
    return per_second, (node.cpu_s() - before) / done * 1000


def rate(port: int, paths: Sequence[str], seconds: float = SECONDS, accept: str = DICOM_JSON) -> float:
    """Return requests a second of one client that asks one after the other."""
    client = Client(port)
    try:
        for path in paths[:10]:
            client.get(path, accept)
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            client.get(paths[done % len(paths)], accept)
            done += 1
        return done / passed
    finally:
        client.close()


def search(table: Table, nodes: Sequence[Served], studies: Sequence[str]) -> None:
    """QIDO-RS: one hit, and a list of a thousand."""
    chosen = studies[:: max(1, len(studies) // 1000)]
    works: list[tuple[str, list[str], str]] = [
        ("QIDO-RS, one hit, requests/s", [f"/studies?StudyInstanceUID={uid}" for uid in chosen], "50"),
        ("QIDO-RS, 1,000 studies, lists/s", ["/studies?limit=1000"], "10"),
    ]
    for _ in range(ROUNDS):
        for work, paths, aim in works:
            for node in nodes:
                per_second, cpu_ms = measured(node, paths)
                table.add(work, node.name, per_second, aim)
                table.add(f"{work.partition(', ')[2].rpartition(', ')[0]}: CPU of the server, ms", node.name, cpu_ms)


def metadata(table: Table, nodes: Sequence[tuple[str, int]], slices: Sequence[images.Instance]) -> None:
    """WADO-RS: the metadata of a CT study, and how long its first byte takes."""
    path = f"/studies/{slices[0].study}/metadata"
    for _ in range(ROUNDS):
        for name, port in nodes:
            table.add(f"metadata of {len(slices):,} CT images, a second", name, rate(port, [path], 3), "10")
            client = Client(port)
            first_ms = min(client.first_byte_s(path) for _ in range(3)) * 1000
            table.add("first byte of it, ms", name, first_ms, "< 50")
            client.close()


def thumbnails(table: Table, nodes: Sequence[tuple[str, int]], shots: Sequence[images.Instance]) -> None:
    """Thumbnails of a page of studies; Orthanc has none, and renders the image in that size."""
    ours = [f"/studies/{shot.study}/thumbnail" for shot in shots]
    theirs = [f"{web_frames.instance_path(shot)}/rendered?viewport=200,200" for shot in shots]
    for turn in range(ROUNDS):
        for (name, port), paths in zip(nodes, (ours, theirs), strict=True):
            client, began = Client(port), time.perf_counter()
            for path in paths:
                client.get(path, "image/jpeg")
            pages = 1 / (time.perf_counter() - began)
            client.close()
            table.add(f"thumbnails of {len(shots)} studies, {'again, ' if turn else ''}pages/s", name, pages, "5")


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Leave the machine's networks, so that nobody else reaches what is started here (Linux, root)."""
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) == 0:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: S607
    yield


def retrieve(
    table: Table, nodes: Sequence[tuple[str, int]], retrieved: Sequence[images.Instance], folder: Path
) -> None:
    """WADO-RS."""
    by_class: dict[str, list[images.Instance]] = {}
    for instance in retrieved:
        by_class.setdefault(instance.sop_class, []).append(instance)
    metadata(table, nodes, by_class[images.CT.sop_class])
    web_frames.large_frames(table, nodes, by_class[images.DR.sop_class], folder, ROUNDS)
    thumbnails(table, nodes, by_class[PAGE.sop_class])


def storing(table: Table, nodes: Sequence[Served]) -> None:
    """STOW-RS: images of a DR console, each durable when it is answered."""
    for _ in range(ROUNDS):
        for node in nodes:
            table.add("STOW-RS of DR, images/s", node.name, stow_rate(node.web_port), "2")


PARTS = ("search", "retrieve", "store", "viewers")


def fill(node: Node, instances: Sequence[images.Instance]) -> None:
    """C-STORE the images, four senders at once."""
    sent = store(node.address, instances, 4)
    if sent.refused:
        raise SystemExit(f"{node.name} has refused {sent.refused} images")
    print(f"    {node.name}: {sent.instances} images in {sent.seconds:.0f} s", flush=True)


def measure(folder: Path, studies: int, parts: Sequence[str]) -> str:
    """Return the table."""
    table = Table(["backup-scp", "Orthanc", "nginx"], ("backup-scp", "Orthanc"), "at least")
    instances = images.new(HEADER, studies)
    ours, theirs = WebBackupSCP(Place(folder / "ours")), WebOrthanc(Place(folder / "theirs", sink_port=104))
    nodes: tuple[Node, ...] = (ours, theirs)
    running: list[Node] = []
    try:
        for node in nodes:
            running.append(node.start())
            fill(node, instances)
        addresses = [(ours.name, ours.web_port), (theirs.name, theirs.web_port)]
        if "search" in parts:
            search(table, (ours, theirs), [instance.study for instance in instances])
        if "retrieve" in parts:
            retrieved = [*images.new(CT_STUDY, 1000), *images.new(images.DR, 24), *images.new(PAGE, 50)]
            for node in nodes:
                fill(node, retrieved)
            retrieve(table, addresses, retrieved, folder / "nginx")
        if "store" in parts:
            storing(table, (ours, theirs))
        if "viewers" in parts:
            slices = images.new(CT_STUDY, 250)
            for node in (ours, theirs):
                fill(node, slices)
                web_frames.stored_while_viewed(table, node.name, node.web_port, node.address, slices, ROUNDS)
        table.add("memory of the web process, MB", ours.name, ours.web_peak_mb(), "< 150")
    finally:
        for node in running:
            node.stop()
    return table.markdown("work")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where both keep their data; by default a temporary folder")
    arguments = parser.parse_args()
    with own_network(), tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(measure(Path(folder), arguments.studies, arguments.parts))


if __name__ == "__main__":
    main()
