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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import images
from benchmarks.load import store
from benchmarks.nodes import BackupSCP, Node, Orthanc, Place, free_port
from benchmarks.table import Table

SECONDS = 5.0
ROUNDS = 3
HEADER = images.Kind("header", "1.2.840.10008.5.1.4.1.1.7", "OT", 2, 2, bytes_a_pixel=1)
"""An image that is nearly only its header: a study each."""

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

    def get(self, path: str, accept: str = "application/dicom+json") -> bytes:
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


def rate(port: int, paths: Sequence[str], seconds: float = SECONDS) -> float:
    """Return requests a second of one client that asks one after the other."""
    client = Client(port)
    try:
        for path in paths[:10]:
            client.get(path)
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            client.get(paths[done % len(paths)])
            done += 1
        return done / passed
    finally:
        client.close()


def search(table: Table, nodes: Sequence[tuple[str, int]], studies: Sequence[str]) -> None:
    """QIDO-RS: one hit, and a list of a thousand."""
    chosen = studies[:: max(1, len(studies) // 1000)]
    works: list[tuple[str, list[str], str]] = [
        ("QIDO-RS, one hit, requests/s", [f"/studies?StudyInstanceUID={uid}" for uid in chosen], "50"),
        ("QIDO-RS, 1,000 studies, lists/s", ["/studies?limit=1000"], "10"),
    ]
    for _ in range(ROUNDS):
        for work, paths, aim in works:
            for name, port in nodes:
                table.add(work, name, rate(port, paths), aim)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Leave the machine's networks, so that nobody else reaches what is started here (Linux, root)."""
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) == 0:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: S607
    yield


PARTS: dict[str, Callable[[Table, Sequence[tuple[str, int]], Sequence[str]], None]] = {"search": search}


def fill(node: Node, instances: Sequence[images.Instance]) -> None:
    """C-STORE the images, four senders at once."""
    sent = store(node.address, instances, 4)
    if sent.refused:
        raise SystemExit(f"{node.name} has refused {sent.refused} images")
    print(f"    {node.name}: {sent.instances} images in {sent.seconds:.0f} s", flush=True)


def measure(folder: Path, studies: int, parts: Sequence[str]) -> str:
    """Return the table."""
    table = Table(["backup-scp", "Orthanc"], ("backup-scp", "Orthanc"), "at least")
    instances = images.new(HEADER, studies)
    ours, theirs = WebBackupSCP(Place(folder / "ours")), WebOrthanc(Place(folder / "theirs", sink_port=104))
    nodes: tuple[Node, ...] = (ours, theirs)
    running: list[Node] = []
    try:
        for node in nodes:
            running.append(node.start())
            fill(node, instances)
        addresses = [(ours.name, ours.web_port), (theirs.name, theirs.web_port)]
        for part in parts:
            PARTS[part](table, addresses, [instance.study for instance in instances])
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
