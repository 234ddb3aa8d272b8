"""Four archives behind one interface: ours, Orthanc, dcmtk's dcmqrscp, and pynetdicom's qrscp.

Each takes the same samples, and each is looked at from outside: by DIMSE, and in the files that it keeps.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.processes import LOOPBACK, Process, clean_environment, connects, free_port
from tests.samples import Sample, data_set_bytes
from tests.system import pynetdicom_peers, raw_sender
from tests.system.node import Node, Remote
from tests.system.peers import DcmQRSCP, Orthanc
from tests.system.pynetdicom_peers import Counts, Found

OURS, ORTHANC, DCMQRSCP, QRSCP = NAMES = ("backup-scp", "Orthanc", "dcmqrscp", "qrscp")
_PROGRAMS = {ORTHANC: "Orthanc", DCMQRSCP: "dcmqrscp"}
_RETRIED_AT_ONCE: dict[str, object] = {"wait_s": 0, "retry_s": 0.2}
_BEFORE_DATA_SET = 132  # preamble and prefix, PS3.10 7.1


@dataclass(frozen=True)
class Wanted:
    """What a scenario wants of each of the archives."""

    remotes: Sequence[Remote] = ()
    storage: Path | None = None
    """Where the files go; below the archive's own folder unless said."""
    index: Path | None = None
    """The same of its database; dcmqrscp has it among its files."""
    room: int = 0
    """How many instances of a megabyte there is room for: Orthanc and dcmqrscp have a quota, the others a full disk."""
    orthanc: dict[str, object] = field(default_factory=dict)


class Server(Protocol):
    """How each of them is started and reached."""

    host: str
    port: int
    ae_title: str
    process: Process

    def start(self) -> None: ...


class Archive:
    """One of them, not started."""

    def __init__(self, name: str, folder: Path, wanted: Wanted) -> None:
        self.name, self.folder = name, folder
        self.storage = (wanted.storage or folder / "a" / "b" / "storage") / name
        index = (wanted.index or folder / "index") / name
        for path in (self.storage, index):
            path.mkdir(parents=True, exist_ok=True)
        self._server = _SERVERS[name](self.storage, index, wanted, folder)
        self.host, self.port, self.ae_title = self._server.host, self._server.port, self._server.ae_title
        self.process: Process = self._server.process

    def start(self) -> None:
        self._server.start()

    @property
    def remote(self) -> Remote:
        return Remote(self.name.lower(), self.ae_title, self.port)

    def send(self, *samples: Sample, calling: str = "CONSOLE") -> list[int]:
        """C-STORE each; return the Statuses, of which there are fewer where the association was broken off."""
        statuses: list[int] = []
        try:
            with raw_sender.Association(self, raw_sender.contexts_of(*samples), calling=calling) as association:
                statuses.extend(association.store(sample).status for sample in samples)
        except ConnectionError:
            pass
        return statuses

    def find(self, level: str, keys: Mapping[str, object]) -> Found:
        return pynetdicom_peers.find(self, level, keys, calling="CONSOLE")

    def move(self, destination: str, **keys: str) -> Counts:
        """C-MOVE of one study, or of one instance of it; return the final answer."""
        level = "IMAGE" if "SOPInstanceUID" in keys else "STUDY"
        return pynetdicom_peers.move(self, destination, level, keys, calling="CONSOLE")[-1]

    def files(self) -> dict[str, Path]:
        """Return the stored files by the SHA-256 of their Data Set."""
        return {hashlib.sha256(data_set_bytes(path)).hexdigest(): path for path in _dicom_below(self.storage)}

    def lacks(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return those of which no file has the Data Set, bit for bit."""
        held = self.files()
        return [sample for sample in samples if sample.sha256 not in held]


def installed() -> list[str]:
    """Return the names of the archives that can be started here."""
    found = [name for name in NAMES if name not in _PROGRAMS or _path(_PROGRAMS[name])]
    assert len(found) == len(NAMES) or not os.environ.get("CI"), "in CI all of them are installed"
    return found


def _path(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def _dicom_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > _BEFORE_DATA_SET:
            with path.open("rb") as file:
                if file.read(_BEFORE_DATA_SET).endswith(b"DICM"):
                    yield path


def _ours(storage: Path, index: Path, wanted: Wanted, folder: Path) -> Node:
    settings: dict[str, dict[str, object]] = {
        "archive": {"url": str(storage), "reserve_mb": 1},
        "index": {"url": f"sqlite:///{index / 'index.sqlite'}"},
        "commitment": _RETRIED_AT_ONCE,
    }
    return Node(folder / "node", remotes=wanted.remotes, settings=settings)


def _orthanc(storage: Path, index: Path, wanted: Wanted, folder: Path) -> Orthanc:
    settings: dict[str, Any] = {"StorageDirectory": str(storage), "IndexDirectory": str(index), **wanted.orthanc}
    if wanted.room:
        settings["MaximumStorageSize"] = wanted.room
    return Orthanc(folder / "orthanc", modalities=wanted.remotes, **settings)


def _dcmqrscp(storage: Path, index: Path, wanted: Wanted, folder: Path) -> DcmQRSCP:
    where = index if wanted.index else storage
    return DcmQRSCP(folder / "dcmqrscp", storage=where, remotes=wanted.remotes, studies=wanted.room or 500)


class _QRSCP:
    """pynetdicom's application, as it comes."""

    def __init__(self, storage: Path, index: Path, wanted: Wanted, folder: Path) -> None:
        self.host, self.port, self.ae_title = LOOPBACK, free_port(), QRSCP.upper()
        config = folder / "qrscp.ini"
        tables = [
            f"[DEFAULT]\nae_title: {self.ae_title}\nport: {self.port}\nmax_pdu: 16382\nbind_address: {LOOPBACK}",
            "acse_timeout: 30\ndimse_timeout: 30\nnetwork_timeout: 30",
            f"instance_location: {storage}\ndatabase_location: {index / 'index.sqlite'}",
            *(f"[{remote.ae_title}]\naddress: {remote.host}\nport: {remote.port}" for remote in wanted.remotes),
        ]
        config.write_text("\n".join([*tables, ""]))
        argv = [sys.executable, "-m", "pynetdicom", "qrscp", "--config", str(config)]
        self.process = Process(argv, folder / "qrscp.log", clean_environment(PYTHONWARNINGS="ignore"))

    def start(self) -> None:
        self.process.launch(lambda: connects(self.port))


_SERVERS: dict[str, Callable[[Path, Path, Wanted, Path], Server]] = {
    OURS: _ours,
    ORTHANC: _orthanc,
    DCMQRSCP: _dcmqrscp,
    QRSCP: _QRSCP,
}
