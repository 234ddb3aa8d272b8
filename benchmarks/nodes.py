"""Nodes to measure, each started fresh on an empty folder: Orthanc and dcmqrscp as Debian has them, and this one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks import sink
from benchmarks.certificates import Certificates
from benchmarks.load import Address, echoes

_START_S = 60.0
_SMALL_BYTES = 65_536
_NOT_INHERITED = ("BACKUP_SCP_", "PYTHONDONTWRITEBYTECODE")  # an installed package is compiled
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Place:
    """What a node is told: its folder, the Move Destination's port, the certificates, the database.

    ``checkout`` is the folder of another version of this node; None for the one that is installed.  ``is_kept`` leaves
    the folder as it is for a later run.
    """

    folder: Path
    sink_port: int = 0
    certificates: Certificates | None = None
    index_url: str = ""
    checkout: Path | None = None
    is_kept: bool = False


class Node:
    """One node in processes of its own."""

    name = ""
    ae_title = ""

    def __init__(self, place: Place) -> None:
        self._place = place
        place.folder.mkdir(parents=True, exist_ok=place.is_kept)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0

    @property
    def address(self) -> Address:
        """Where it is called."""
        return Address(self._port, self.ae_title)

    def argv(self) -> list[str]:
        """Write its configuration; give the command that starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Give what is added to the environment."""
        # dcmtk, and so Orthanc, writes an answer in two pieces with Nagle's algorithm on: 40 ms each.
        return {"TCP_NODELAY": "1"}

    def start(self) -> Self:
        """Start it, and note the seconds until it has answered a first C-ECHO."""
        argv, log = self.argv(), self._place.folder / "log"
        with log.open("wb") as output:
            began = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=inherited() | self.environment(),
                cwd=self._place.folder,
            )
        while not echoes(self.address):
            if self._process.poll() is not None or time.perf_counter() - began > _START_S:
                raise SystemExit(f"{self.name} does not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)
        self.started_s = time.perf_counter() - began
        return self

    def stop(self) -> None:
        """End it, and give back the disk that it has taken."""
        self.end()
        if not self._place.is_kept:
            empty(self._place.folder)

    def end(self) -> None:
        """End it as a service manager does; ``start`` starts it again."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def has(self, what: str) -> bool:
        """Tell whether an earlier run has filled the kept folder with this."""
        return (self._place.folder / f"has {what}").exists()

    def remember(self, what: str) -> None:
        """Note what the node has been filled with."""
        (self._place.folder / f"has {what}").touch()

    @property
    def pid(self) -> int:
        """Return the ID of its first process."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def processes(self) -> list[int]:
        """Return the IDs of its processes, the first one first."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (thread / "children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used, ended children included."""
        return sum(cpu_s(pid) for pid in self.processes())

    def peak_mb(self) -> float:
        """Return the most memory that its processes have had since ``forget_peak``, in MB."""
        return sum(_memory_kib(pid, "VmHWM:") for pid in self.processes()) * 1024 / 1e6

    def forget_peak(self) -> None:
        """Let the peak begin from what is resident now."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


class Orthanc(Node):
    """Orthanc without its web server, no compression, PDUs as long as it can."""

    name = "Orthanc"
    ae_title = "ORTHANC"

    @property
    def address(self) -> Address:
        """Where it is called: with certificates, on the same port."""
        certificates = self._place.certificates
        return Address(self._port, self.ae_title, tls=certificates.context if certificates else None)

    def argv(self) -> list[str]:
        """Write its configuration; give the command that starts it."""
        settings: dict[str, object] = {
            "Name": "measured",
            "StorageDirectory": str(self._place.folder / "storage"),
            "IndexDirectory": str(self._place.folder / "storage"),
            "StorageCompression": False,
            "HttpServerEnabled": False,
            "Plugins": [],
            "DicomAet": self.ae_title,
            "DicomPort": self._port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "MaximumPduLength": 131_072,
            "DicomModalities": {"sink": [sink.AE_TITLE, "127.0.0.1", self._place.sink_port]},
        }
        if certificates := self._place.certificates:
            settings |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(certificates.certificate),
                "DicomTlsPrivateKey": str(certificates.key),
                "DicomTlsTrustedCertificates": str(certificates.ca),
            }
        (self._place.folder / "orthanc.json").write_text(json.dumps(settings))
        return [program("Orthanc"), str(self._place.folder / "orthanc.json")]


class DcmQRSCP(Node):
    """dcmtk's archive."""

    name = "dcmqrscp"
    ae_title = "DCMQRSCP"

    def argv(self) -> list[str]:
        """Write its configuration; give the command that starts it."""
        storage = self._place.folder / "storage"
        storage.mkdir()
        tables = {
            "Host": [f"sink = ({sink.AE_TITLE}, 127.0.0.1, {self._place.sink_port})"],
            "Vendor": [],
            "AE": [f"{self.ae_title} {storage} RW (500, 1024mb) ANY"],  # more than 500 studies it does not take
        }
        lines = [f"NetworkTCPPort = {self._port}", "MaxPDUSize = 131072", "MaxAssociations = 64"]
        for table, rows in tables.items():
            lines += [f"{table}Table BEGIN", *rows, f"{table}Table END"]
        (self._place.folder / "dcmqrscp.cfg").write_text("\n".join([*lines, ""]))
        return [program("dcmqrscp"), "-c", str(self._place.folder / "dcmqrscp.cfg")]


class BackupSCP(Node):
    """What is measured: the node as it is installed beside the interpreter that runs the benchmark."""

    name = "backup-scp"
    ae_title = "BACKUP_SCP"

    def __init__(self, place: Place, *, workers: int = 1) -> None:
        super().__init__(place)
        self._workers = workers
        self._tls_port = free_port()

    @property
    def secured(self) -> Address:
        """Where it is called with TLS."""
        certificates = self._place.certificates
        return Address(self._tls_port, self.ae_title, tls=certificates.context if certificates else None)

    def argv(self) -> list[str]:
        """Give the command that starts it; its settings are in the environment."""
        return [sys.executable, "-m", "backup_scp", "serve"]

    def environment(self) -> dict[str, str]:
        """Give its settings."""
        remote = {"name": "sink", "ae_title": sink.AE_TITLE, "host": "127.0.0.1", "port": self._place.sink_port or 104}
        settings = {
            "CONFIG": "",  # no settings file of this machine either
            "HOME": str(self._place.folder / "data"),
            "NODE__HOST": "127.0.0.1",
            "NODE__PORT": str(self._port),
            "NODE__WORKERS": str(self._workers),
            "NODE__AE_TITLE": self.ae_title,
            "REMOTE": json.dumps([remote]),
            "VERIFY__FULL_PASS_DAYS": "0",  # a filled index speaks of files that do not exist
        }
        if self._place.index_url:
            settings["INDEX__URL"] = self._place.index_url
        if certificates := self._place.certificates:
            settings |= {
                "TLS__CERTIFICATE": str(certificates.certificate),
                "TLS__KEY": str(certificates.key),
                "TLS__CA": str(certificates.ca),
                "TLS__PORT": str(self._tls_port),
            }
        version = {"PYTHONPATH": str(self._place.checkout.resolve())} if self._place.checkout else {}
        return version | {f"BACKUP_SCP_{name}": value for name, value in settings.items()}


def empty(folder: Path) -> None:
    """Empty the files of a folder, and leave them there until all is measured.

    ext4 passes over each inode that was deleted in the last five minutes when it makes a file: after thousands of
    them, making one takes several times as long.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > _SMALL_BYTES:
            os.truncate(path, 0)


def inherited() -> dict[str, str]:
    """Return the environment that a node gets besides its own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)}


def free_port() -> int:
    """Give a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of one process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_A_SECOND


def _memory_kib(pid: int, line: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").partition(line)[2].split()[0])
    except (OSError, IndexError):
        return 0


def program(name: str) -> str:
    """Find a program of the peers."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed; `make peers` installs it")
    return found


@contextlib.contextmanager
def running_sink(*taken: str) -> Iterator[int]:
    """Run a Move Destination that keeps nothing, and takes these Transfer Syntaxes or all; yield its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port), *taken])  # noqa: S603
    try:
        until = time.perf_counter() + _START_S
        while not echoes(Address(port, sink.AE_TITLE)) and time.perf_counter() < until:
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()
