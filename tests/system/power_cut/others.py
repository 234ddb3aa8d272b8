"""The same power cuts under other servers with their defaults."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.processes import LOOPBACK, Process, connects, free_port
from tests.system.archives import Server
from tests.system.contents import digests
from tests.system.peers import DcmQRSCP, Orthanc, require
from tests.system.power_cut.volume import Volume, run
from tests.system.power_cut.workload import Console, Ledger, Moment, Senders

_VOLUME_BYTES = 600 << 20


@dataclass
class OtherResult:
    """A row of the comparison."""

    server: str
    file_system: str
    cycles: int = 0
    acknowledged: int = 0
    lost: int = 0


class ServerOnVolume(Server, Protocol):
    """A server with its data on a volume, and everything else beside it."""

    def held(self) -> set[str]:
        """Return the SHA-256 of every Data Set that it has, after a restart where it needs one to say so."""


class OrthancOnVolume(Orthanc):
    """Orthanc with storage and index on the volume."""

    def __init__(self, folder: Path, storage: Path) -> None:
        super().__init__(folder, StorageDirectory=str(storage), IndexDirectory=str(storage))

    def held(self) -> set[str]:
        self.start()
        held = {hashlib.sha256(data_set).hexdigest() for data_set in self.data_sets()}
        self.process.kill()
        return held


class StoreSCPOnVolume:
    """storescp with its files on the volume."""

    def __init__(self, folder: Path, storage: Path) -> None:
        folder.mkdir()
        self.host, self.port, self.ae_title, self._storage = LOOPBACK, free_port(), "OTHER", storage
        argv = [require("storescp"), "-aet", self.ae_title, "+B", "+uf", "-od", str(storage), str(self.port)]
        self.process = Process(argv, folder / "storescp.log")

    def start(self) -> None:
        self.process.launch(lambda: connects(self.port))

    def held(self) -> set[str]:
        return _digests_below(self._storage)


class DcmQRSCPOnVolume(DcmQRSCP):
    """dcmqrscp with its files, its index among them, on the volume."""

    def __init__(self, folder: Path, storage: Path) -> None:
        super().__init__(folder, storage=storage, options=("--single-process",))

    def held(self) -> set[str]:
        return _digests_below(self.storage)


def _digests_below(storage: Path) -> set[str]:
    return set(digests(path for path in storage.rglob("*") if path.is_file() and path.name != "index.dat"))


SERVERS: dict[str, Callable[[Path, Path], ServerOnVolume]] = {
    "Orthanc": OrthancOnVolume,
    "storescp": StoreSCPOnVolume,
    "dcmqrscp": DcmQRSCPOnVolume,
}


def cut_power_of(name: str, file_system: str, work: Path, cycles: int, seed: int) -> OtherResult:
    """Cut the power so many times, each time of a new volume; only new instances are sent."""
    result = OtherResult(name, file_system)
    for cycle in range(cycles):
        folder = work / f"{name}-{file_system}-{cycle}"
        folder.mkdir()
        volume = Volume.new(folder, "volume", file_system, _VOLUME_BYTES)
        storage = volume.path / "storage"
        storage.mkdir()
        run("sync", "-f", storage)
        server = SERVERS[name](folder / "server", storage)
        ledger = _work_until_cut(server, volume, f"{seed}/{name}/{file_system}/{cycle}")
        volume.unmount()
        volume.mount()
        result.cycles += 1
        result.acknowledged += len(ledger.acknowledged)
        result.lost += len(set(ledger.acknowledged) - _held(server))
        server.process.kill()
        volume.remove()
    return result


def _work_until_cut(server: ServerOnVolume, volume: Volume, drawn_from: str) -> Ledger:
    ledger, moment = Ledger(), Moment.drawn(random.Random(drawn_from), 1)
    server.start()
    senders = Senders(server, [Console(drawn_from, only_new=True)], ledger, moment)
    moment.wait()
    moment.over.set()
    volume.cut()
    server.process.kill()
    senders.join()
    return ledger


def _held(server: ServerOnVolume) -> set[str]:
    try:
        return server.held()
    except (AssertionError, OSError) as error:  # it does not start any more
        print(f"after the power cut: {error}")
        return set()
