"""Measure this node and another version of it with dcmtk's own tools as they are installed: ``--beside CHECKOUT``.

dcmtk leaves Nagle's algorithm on and writes a message in several pieces, as many devices do.  A receiver that delays
its acknowledgement makes each image wait for 40 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import images, load, nodes, sink
from benchmarks.images import CT, TINY, Instance, Kind
from benchmarks.nodes import BackupSCP, Place
from benchmarks.table import Table

_THIS, _OTHER = "this version", "the other"
_IMAGES = 60
_START_S = 30.0


class StockPeers:
    """One run over both versions: its table."""

    def __init__(self, folder: Path, beside: Path | None, moved: int) -> None:
        self._folder, self._moved = folder, moved
        self._versions = {_THIS: None} if beside is None else {_THIS: None, _OTHER: beside}
        self.table = Table(list(self._versions), (_THIS, _OTHER), "aim")

    def run(self, repeat: int) -> None:
        """Measure each version so many times, in turns."""
        for turn in range(repeat):
            versions = list(self._versions.items())
            for column, checkout in reversed(versions) if turn % 2 else versions:
                self._measure(turn, column, checkout)

    def _measure(self, turn: int, column: str, checkout: Path | None) -> None:
        folder = self._folder / f"{column.replace(' ', '-')}-{turn}"
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


def _timed(program: str, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([_program(program), *arguments], env=_as_installed(), check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - began


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed; Debian has it in dcmtk")
    return found


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
    argv = [_program("storescp"), "-aet", sink.AE_TITLE, "+xa", "-od", str(folder), str(port)]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, help="a checkout of another version")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--moved", type=int, default=200, help="CT images of 0.5 MB")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measuring = StockPeers(Path(folder), arguments.beside, arguments.moved)
        measuring.run(arguments.repeat)
    print(f"\n{measuring.table.markdown('with dcmtk as it is installed')}")


if __name__ == "__main__":
    main()
