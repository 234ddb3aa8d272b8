"""Measure this node and another version of it with dcmtk's own tools as they are installed: ``--beside CHECKOUT``.

dcmtk leaves Nagle's algorithm on and writes a message in several pieces, as many devices do.  A receiver that delays
its acknowledgement makes each image wait for 40 ms.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import images, load, nodes, sink
from benchmarks.images import CT, TINY, Instance, Kind
from benchmarks.nodes import BackupSCP, Place, program
from benchmarks.two_versions import TwoVersions, parser

_IMAGES = 60
_START_S = 30.0


class StockPeers(TwoVersions):
    """Stores and retrieves with dcmtk's tools, and without Nagle's algorithm for comparison."""

    def __init__(self, folder: Path, beside: Path | None, moved: int) -> None:
        super().__init__(folder, beside, shows_ratio=True)
        self._moved = moved

    def measure(self, column: str, folder: Path, checkout: Path | None) -> None:
        """Measure one version."""
        with _storescp(folder / "received") as port:
            node = BackupSCP(Place(folder / "node", port, checkout=checkout))
            try:
                node.start()
                self._store_and_get(node, column, folder)
                self._move(node, column, folder / "received")
                self._without_nagle(node, column)
            finally:
                node.stop()

    def _store_and_get(self, node: BackupSCP, column: str, folder: Path) -> None:
        small = _one_study(TINY, _IMAGES)
        files = _written(small, folder / "sent")
        seconds = _timed("storescu", "-xe", *_called(node), "+sd", str(files))
        self.table.add(f"storescu, {_IMAGES} images of 10 KB, /s", column, _IMAGES / seconds, "3")
        (folder / "got").mkdir()
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={small[0].study}")
        seconds = _timed("getscu", "-S", *_called(node), *keys, "-od", str(folder / "got"))
        _require(_count(folder / "got"), _IMAGES)
        self.table.add(f"getscu, {_IMAGES} images of 10 KB, /s", column, _IMAGES / seconds, "10")

    def _move(self, node: BackupSCP, column: str, received: Path) -> None:
        slices = _one_study(CT, self._moved)
        load.store(node.address, slices)
        came, seconds = load.retrieve(node.address, "C-MOVE", CT.sop_class, [slices[0].study])
        _require(came, self._moved)
        _require(_count(received), self._moved)
        self.table.add(f"C-MOVE of {self._moved} CT to storescp, /s", column, came / seconds, "10")

    def _without_nagle(self, node: BackupSCP, column: str) -> None:
        """Measure what it costs those who do not need it."""
        rate = load.associate(node.address, 300)
        self.table.add("associate + C-ECHO + release, without Nagle, /s", column, rate, "0.97")
        rate = load.store(node.address, images.new(TINY, 500)).rate
        self.table.add("C-STORE tiny, without Nagle, /s", column, rate, "0.97")


def _one_study(kind: Kind, count: int) -> list[Instance]:
    """Make images of one study."""
    return images.new(Kind(kind.name, kind.sop_class, kind.modality, kind.rows, kind.columns, in_study=count), count)


def _written(instances: Sequence[Instance], folder: Path) -> Path:
    """Write a file of each instance: its Data Set alone, which ``storescu`` takes, too."""
    folder.mkdir(parents=True)
    for number, instance in enumerate(instances):
        (folder / f"{number:04}.dcm").write_bytes(b"".join(instance.parts))
    return folder


def _called(node: BackupSCP) -> tuple[str, ...]:
    return ("-aet", "MODALITY", "-aec", node.ae_title, "127.0.0.1", str(node.address.port))


def _timed(tool: str, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([program(tool), *arguments], env=_as_installed(), check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - began


def _as_installed() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _require(came: int, wanted: int) -> None:
    if came != wanted:
        raise SystemExit(f"{came} of {wanted} images came: no figure")


@contextlib.contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    """Run dcmtk's Storage SCP; yield its port."""
    folder.mkdir(parents=True)
    port = nodes.free_port()
    argv = [program("storescp"), "-aet", sink.AE_TITLE, "+xa", "-od", str(folder), str(port)]
    process = subprocess.Popen(argv, env=_as_installed())  # noqa: S603
    try:
        until = time.perf_counter() + _START_S
        while not load.echoes(load.Address(port, sink.AE_TITLE)) and time.perf_counter() < until:
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, repeat=3)
    options.add_argument("--moved", type=int, default=200, help="CT images of 0.5 MB")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measuring = StockPeers(Path(folder), arguments.beside, arguments.moved)
        measuring.run(arguments.repeat)
    print(f"\n{measuring.table.markdown('with dcmtk as it is installed')}")


if __name__ == "__main__":
    main()
