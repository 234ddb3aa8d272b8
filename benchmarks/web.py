"""Measure DICOMweb beside Orthanc with its plugin: both hold the same images, and both are asked over loopback.

    python -m benchmarks.web --studies 50000

With ``--keep FOLDER`` both are filled once, and asked again at each run.  The part ``cold`` restarts them and drops
the system's caches before each request (root).

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
from benchmarks.web_client import SECONDS, Client, rate
from benchmarks.web_store import stow_rate

ROUNDS = 3
QUIET_S = 20.0
HEADER = images.Kind("header", "1.2.840.10008.5.1.4.1.1.7", "OT", 2, 2, bytes_a_pixel=1)
"""An image that is nearly only its header: a study each."""

CT_STUDY = images.Kind("CT", images.CT.sop_class, "CT", 512, 512, in_study=1000)
PAGE = images.Kind("CR", "1.2.840.10008.5.1.4.1.1.1", "CR", 1500, 1200)

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

    def forget_answers(self) -> None:
        """Remove what its web process has kept."""
        shutil.rmtree(self._place.folder / "data" / "cache", ignore_errors=True)

    def web_peak_mb(self) -> float:
        """Return the most memory that its web process has had, in MB."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if b"web_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    status = Path(f"/proc/{pid}/status").read_text("utf-8")
                    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        return 0.0


Served = WebOrthanc | WebBackupSCP


def measured(node: Served, paths: Sequence[str], seconds: float = SECONDS) -> tuple[float, float]:
    """Return requests a second, and the milliseconds of processor time that the server takes for each."""
    before, began = node.cpu_s(), time.perf_counter()
    per_second = rate(node.web_port, paths, seconds)
    done = per_second * (time.perf_counter() - began)
    return per_second, (node.cpu_s() - before) / done * 1000


def first_ms(node: Served, path: str, *, from_disk: bool = True, is_new: bool = False) -> float:
    """Return how long a first answer takes after a restart, in milliseconds.

    Parameters
    ----------
    from_disk
        Whether to drop the system's caches before.
    is_new
        Whether what the node has kept of earlier answers is removed.
    """
    node.end()
    if is_new and isinstance(node, WebBackupSCP):
        node.forget_answers()
    node.start()
    Client.patiently(node.web_port, "/studies?StudyInstanceUID=1.2.3").close()  # its modules are loaded
    if from_disk:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    client, began = Client(node.web_port), time.perf_counter()
    client.get(path)
    passed = time.perf_counter() - began
    client.close()
    return passed * 1000


def cold(table: Table, nodes: Sequence[Served], studies: Sequence[str], slices: Sequence[images.Instance]) -> None:
    """QIDO-RS and metadata when nothing is in memory, and when they are asked for the first time."""
    path, work = f"/studies/{slices[0].study}/metadata", f"metadata of {len(slices):,} CT images"
    for turn in range(ROUNDS):
        for node in nodes:
            hit_ms = first_ms(node, f"/studies?StudyInstanceUID={studies[turn]}")
            table.add("QIDO-RS, one hit, from the disk, ms", node.name, hit_ms)
            table.add(f"{work} for the first time, ms", node.name, first_ms(node, path, from_disk=False, is_new=True))
            table.add(f"{work} for the first time, from the disk, ms", node.name, first_ms(node, path, is_new=True))
            table.add(f"{work} again, from the disk, ms", node.name, first_ms(node, path))


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


def metadata(table: Table, nodes: Sequence[Served], slices: Sequence[images.Instance]) -> None:
    """WADO-RS: the metadata of a CT study, and how long its first byte takes."""
    path = f"/studies/{slices[0].study}/metadata"
    for _ in range(ROUNDS):
        for node in nodes:
            per_second, cpu_ms = measured(node, [path], 3)
            table.add(f"metadata of {len(slices):,} CT images, a second", node.name, per_second, "10")
            table.add("metadata: CPU of the server, ms", node.name, cpu_ms)
            client = Client(node.web_port)
            first_ms = min(client.first_byte_s(path) for _ in range(3)) * 1000
            table.add("first byte of it, ms", node.name, first_ms, "< 50")
            client.close()


def metadata_ahead(table: Table, nodes: Sequence[Served], filling: Filling) -> None:
    """WADO-RS: the metadata of CT studies that came some seconds ago, asked for the first time."""
    for number in range(7, 7 + ROUNDS):
        slices = filling.new(number, CT_STUDY, 1000 + number)[:1000]
        time.sleep(QUIET_S)
        for node in nodes:
            client, began = Client(node.web_port), time.perf_counter()
            client.get(f"/studies/{slices[0].study}/metadata")
            passed_s = time.perf_counter() - began
            client.close()
            work = f"metadata of {len(slices):,} CT images, first asked for after a quiet while, ms"
            table.add(work, node.name, passed_s * 1000)


def thumbnails(table: Table, nodes: Sequence[tuple[str, int]], shots: Sequence[images.Instance], first: str) -> None:
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
            table.add(f"thumbnails of {len(shots)} studies, {'again' if turn else first}, pages/s", name, pages, "5")


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Leave the machine's networks, so that nobody else reaches what is started here (Linux, root)."""
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) == 0:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: S607
    yield


def storing(table: Table, nodes: Sequence[Served]) -> None:
    """STOW-RS: images of a DR console, each durable when it is answered."""
    for _ in range(ROUNDS):
        for node in nodes:
            table.add("STOW-RS of DR, images/s", node.name, stow_rate(node.web_port), "2")


PARTS = ("search", "metadata", "frames", "thumbnails", "store", "viewers", "cold")


def fill(node: Node, what: str, instances: Sequence[images.Instance]) -> None:
    """C-STORE the images, four senders at once; a kept folder that has them is left as it is."""
    if node.has(what):
        return
    sent = store(node.address, instances, 4)
    if sent.refused:
        raise SystemExit(f"{node.name} has refused {sent.refused} images")
    node.remember(what)
    print(f"    {node.name}: {sent.instances} images in {sent.seconds:.0f} s", flush=True)


class Filling:
    """What both nodes are filled with; in a kept folder the UIDs are the same at each run."""

    def __init__(self, nodes: Sequence[Served], nginx_folder: Path, *, is_kept: bool) -> None:
        self._nodes = nodes
        self.nginx_folder = nginx_folder / "nginx"
        self._is_kept = is_kept

    def new(self, number: int, kind: images.Kind, count: int) -> list[images.Instance]:
        """Fill both with images of a kind, and return these."""
        made = images.new(kind, count, root=f"{images.KEPT_ROOT}.{number}" if self._is_kept else "")
        for node in self._nodes:
            fill(node, f"{count} {kind.name}", made)
        return made


def measure(folder: Path, studies: int, parts: Sequence[str], *, is_kept: bool) -> str:
    """Return the table."""
    table = Table(["backup-scp", "Orthanc", "nginx"], ("backup-scp", "Orthanc"), "at least")
    ours = WebBackupSCP(Place(folder / "ours", is_kept=is_kept))
    theirs = WebOrthanc(Place(folder / "theirs", sink_port=104, is_kept=is_kept))
    nodes = (ours, theirs)
    running: list[Node] = []
    try:
        for node in nodes:
            node.start()
            running.append(node)
        with tempfile.TemporaryDirectory(dir=folder) as nginx_folder:
            _measure(table, nodes, studies, parts, Filling(nodes, Path(nginx_folder), is_kept=is_kept))
    finally:
        for each in running:
            each.stop()
    return table.markdown("work")


def _measure(
    table: Table, nodes: tuple[WebBackupSCP, WebOrthanc], studies: int, parts: Sequence[str], filling: Filling
) -> None:
    addresses = [(node.name, node.web_port) for node in nodes]
    listed = [instance.study for instance in filling.new(1, HEADER, studies)]
    if "search" in parts:
        search(table, nodes, listed)
    slices = filling.new(2, CT_STUDY, 1000) if {"metadata", "cold"}.intersection(parts) else []
    if "metadata" in parts:
        metadata(table, nodes, slices)
        metadata_ahead(table, nodes, filling)
    if "frames" in parts:
        shots = filling.new(3, images.DR, 24)
        servers = [web_frames.Server(node.name, node.web_port, node.processes) for node in nodes]
        web_frames.large_frames(table, servers, shots, filling.nginx_folder)
    if "thumbnails" in parts:
        thumbnails(table, addresses, filling.new(4, PAGE, 50), "just come")
        shots = filling.new(6, PAGE, 51)[:50]
        time.sleep(QUIET_S)
        thumbnails(table, addresses, shots, "first asked for after a quiet while")
    if "store" in parts:
        storing(table, nodes)
    if "viewers" in parts:
        scrolled = filling.new(5, CT_STUDY, 250)
        for _ in range(ROUNDS):
            for node in nodes:
                web_frames.stored_while_viewed(table, node, node.web_port, scrolled)
    table.add("memory of the web process, MB", nodes[0].name, nodes[0].web_peak_mb(), "< 150")
    if "cold" in parts:
        cold(table, nodes, listed, slices)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[part for part in PARTS if part != "cold"])
    parser.add_argument("--folder", type=Path, help="where both keep their data; by default a temporary folder")
    parser.add_argument("--keep", type=Path, help="a folder that keeps what both are filled with for a later run")
    arguments = parser.parse_args()
    with own_network(), tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = arguments.keep or Path(temporary)
        print(measure(folder, arguments.studies, arguments.parts, is_kept=arguments.keep is not None))


if __name__ == "__main__":
    main()
