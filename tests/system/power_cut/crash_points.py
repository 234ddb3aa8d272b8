"""Every point of a block log as a crash point: what was acknowledged before it is there, complete and indexed."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

# What `OpenStores` loads when it needs it: once here, not in the process of each point.
from backup_scp.archive import filesystem  # noqa: F401
from backup_scp.node.node import _recover
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.services.ingest import Ingest
from backup_scp.services.verify import verify
from tests.processes import Process, wait_until
from tests.system.contents import digests, has_journal, left_by_a_crash, staged, visible, whole
from tests.system.node import Node
from tests.system.power_cut.block_log import MARK, MARKS, LogRecord, Replay, read_log
from tests.system.power_cut.drive import DriveCounts, DriveUnderTest
from tests.system.power_cut.indexes import IndexUnderTest, PostgreSQLIndex, SQLiteIndex
from tests.system.power_cut.volume import FOR_THE_WORKLOAD, Volume, make_image, run
from tests.system.power_cut.workload import Console, Ledger, Moment, Senders

_IMAGE_BYTES = 300 << 20  # the least that mkfs.xfs makes
_LARGEST = 400_000
_AFTERWARDS = 5  # instances, for a drive whose copy of the index is written: that flushed all that was there


@dataclass
class Points:
    """What a number of crash points showed; a row of the table."""

    file_system: str
    index: str
    associations: int
    writes: int = 0
    points: int = 0
    acknowledged: int = 0
    """Over all points: an instance that was acknowledged before a hundred of them counts a hundred times."""
    lost: int = 0
    half_written: int = 0
    index_faults: int = 0
    taken_in: int = 0
    """Over all points: how many the node's start took from staging."""
    troubles: list[str] = field(default_factory=list)
    drive: DriveCounts = field(default_factory=DriveCounts)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.half_written or self.index_faults or self.troubles) and self.drive.is_clean


class Recording:
    """One run of the node on a disk that is logged: its start on an empty volume, and the images of its senders."""

    def __init__(
        self, work: Path, points: Points, seed: int, env: Mapping[str, str], *, has_drive: bool = False
    ) -> None:
        self.has_drive = has_drive
        self._programs = work
        self._work = work / f"log-{points.file_system}-{points.index}-{points.associations}"
        self._work.mkdir()
        self._points, self._seed, self._env = points, seed, env
        names = ["archive", *(["index"] if points.index != "sqlite" else []), *(["drive"] if has_drive else [])]
        self.first = [self._work / f"{name}.first" for name in names]
        for image in self.first:
            make_image(image, points.file_system, _IMAGE_BYTES)
        if points.index == "postgresql":
            self._make_server()
        self.log = self._work / "log"
        self.ledger = Ledger()

    def _make_server(self) -> None:
        """Replace the second image by one with a server's data and empty tables: `db upgrade` is not recorded."""
        self.first[1].unlink()
        volume = Volume.new(self._work, "server", self._points.file_system, _IMAGE_BYTES)
        index = PostgreSQLIndex(volume.path, self._programs)
        index.start()
        node = Node(self._work / "upgrade", settings={"index": {"url": index.url}})
        node.cli("db", "upgrade")
        index.stop()
        volume.unmount()
        volume.image.rename(self.first[1])

    def run(self, instances: int) -> None:
        """Record a run with so many instances."""
        fuse = self._work / "fuse"
        fuse.mkdir()
        images = [copied(image, self._work / image.stem) for image in self.first]
        argv = [sys.executable, "-m", "tests.system.power_cut.block_log", fuse, self.log, *images]
        disk = Process(list(map(str, argv)), self._work / "block_log.log", {**os.environ, "PYTHONUNBUFFERED": "1"})
        disk.launch((fuse / MARKS).exists)
        volumes = []
        for image in images:
            mount_point = self._work / f"{image.name}.mounted"
            mount_point.mkdir()
            volumes.append(Volume(fuse / image.name, self._points.file_system, mount_point))
            volumes[-1].mount()
        try:
            self._work_until(instances, fuse / MARKS, [volume.path for volume in volumes])
        finally:
            for volume in volumes:
                volume.unmount()
            run("umount", fuse)
            disk.wait()

    def _work_until(self, instances: int, marks: Path, mount_points: list[Path]) -> None:
        with index_on(mount_points, self._points.index, self._programs) as index:
            self._send(instances, marks, mount_points, index)

    def _send(self, instances: int, marks: Path, mount_points: list[Path], index: IndexUnderTest) -> None:
        env = environment(mount_points, self._env)
        drive = DriveUnderTest(mount_points[-1]) if self.has_drive else None
        copies = drive.copies if drive else ()
        node = Node(self._work / "node", settings=settings_on(index), copies=copies, env=env)
        node.home = mount_points[0] / "data"
        node.start()
        wait_until(lambda: has_journal(node), what="the journal")
        if drive:
            drive.prepare(node)
        with marks.open("wb", buffering=0) as stream:
            self.ledger.on_success = lambda sha256: stream.write(f"{sha256}\n".encode())
            self._send_some(node, instances, "", (lambda: drive.wait_for_lists(2)) if drive else lambda: None)
            if drive:
                listed = drive.wait_for_conclusion()
                self._send_some(node, _AFTERWARDS, "/later")
                drive.wait_for_conclusion(more_than=listed)
                node.stop()  # what the index says of the drive is durable, whatever the drive has
            node.kill()
            stream.write(b"\n")  # the end: what follows is the unmounting

    def _send_some(
        self, node: Node, instances: int, drawn_from: str, before_the_end: Callable[[], None] = lambda: None
    ) -> None:
        moment = Moment(acknowledgements=instances)
        consoles = [
            Console(f"{self._seed}/{self._points.file_system}{drawn_from}", number, largest=_LARGEST)
            for number in range(self._points.associations)
        ]
        senders = Senders(node, consoles, self.ledger, moment)
        moment.wait()
        before_the_end()
        moment.over.set()
        senders.join()


class CrashPoints:
    """Builds the disk as of a point of the log, and opens archive and index on it as the node does when it starts."""

    def __init__(self, recording: Recording, work: Path, points: Points, seed: int) -> None:
        self._recording, self._points, self._seed = recording, points, seed
        self._programs = work
        self._work = work / f"points-{points.file_system}-{points.index}-{points.associations}"
        self._work.mkdir()
        self._settings = self._work / "backup-scp.toml"

    def run(self, count: int) -> Points:
        records = read_log(self._recording.log)
        chance = random.Random(self._seed)
        self._points.writes = len(records)
        durable = [copied(image, self._work / image.stem) for image in self._recording.first]
        replay = Replay(records, durable)
        for point in sorted(self._drawn(records, chance, count)):
            replay.advance(point)
            copies = [copied(image, image.with_suffix(".crashed")) for image in durable]
            how = replay.crash(copies, chance)
            self._check(copies, replay.marks, f"seed {self._seed}, point {point} of {len(records)} ({how})")
        return self._points

    def _drawn(self, records: Sequence[LogRecord], chance: random.Random, count: int) -> list[int]:
        """Draw points; with a drive, those at which something is written to it, and the end."""
        if not self._recording.has_drive:
            return chance.choices(range(1, len(records) + 1), k=count)
        drive = len(self._recording.first) - 1
        end = max(point for point, record in enumerate(records, 1) if record.kind == MARK)
        writes = [point for point, record in enumerate(records[:end], 1) if record.image == drive]
        return [end, *chance.choices(writes, k=count - 1)]

    def _check(self, copies: list[Path], acknowledged: set[str], where: str) -> None:
        volumes = [Volume(copy, self._points.file_system, copy.with_suffix(".mounted")) for copy in copies]
        self._points.points += 1
        self._points.acknowledged += len(acknowledged)
        mounted = []
        try:
            for volume in volumes:
                volume.path.mkdir(exist_ok=True)
                volume.mount()
                mounted.append(volume)
            paths = [volume.path for volume in volumes]
            sent = set(self._recording.ledger.sent)
            drive = DriveUnderTest(paths[-1]) if self._recording.has_drive else None
            found = in_a_child(look, paths, self._points.index, self._programs, acknowledged, sent, drive)
        except OSError as error:
            found = Found(troubles=[str(error)])
        finally:
            for volume in mounted:
                volume.unmount()
        self._points.lost += found.lost
        self._points.taken_in += found.taken_in
        self._points.half_written += found.half_written
        self._points.index_faults += found.index_faults
        self._points.drive.add(found.drive)
        self._points.troubles += [f"{where}: {trouble}" for trouble in found.troubles]


@dataclass
class Found:
    """The errors at one crash point."""

    acknowledged: int = 0
    lost: int = 0
    taken_in: int = 0
    half_written: int = 0
    index_faults: int = 0
    troubles: list[str] = field(default_factory=list)
    drive: DriveCounts = field(default_factory=DriveCounts)


def look(
    mount_points: list[Path],
    kind: str,
    programs: Path,
    acknowledged: set[str],
    sent: set[str],
    drive: DriveUnderTest | None,
) -> Found:
    """Do what a node's start does, and compare the result with the acknowledged instances."""
    work = mount_points[0].parent
    try:
        with index_on(mount_points, kind, programs) as index:
            node = Node(work / "node", settings=settings_on(index), copies=drive.copies if drive else ())
            on_the_drive = DriveCounts()
            troubles = list(drive.look_at(index, on_the_drive)) if drive else []
            found = _look(node, mount_points, index, acknowledged, sent)
            if drive:
                troubles += drive.catch_up(node, on_the_drive, acknowledged)
            found.drive, found.troubles = on_the_drive, found.troubles + troubles
            return found
    except AssertionError as error:  # PostgreSQL does not start
        return Found(index_faults=1, troubles=[str(error)])


def _look(node: Node, mount_points: list[Path], index: IndexUnderTest, acknowledged: set[str], sent: set[str]) -> Found:
    found = Found()
    node.home = mount_points[0] / "data"
    node.write_settings()
    shown = whole(visible(node))
    found.taken_in = len(acknowledged - shown)
    if lost := acknowledged - shown - left_by_a_crash(node):
        found.lost = len(lost)
        found.troubles.append(f"{len(lost)} of {len(acknowledged)} acknowledged instances have no file")
    try:
        index.rows()
    except ValueError as error:
        found.index_faults += 1
        found.troubles.append(f"the index is damaged: {error}")
    with OpenStores(load(node.config, environment(mount_points, {})), create=True) as storage:
        found.troubles += [
            f"the start says: {trouble}" for trouble in _recover(storage, Ingest(storage.archive, storage.index))
        ]
        verified = verify(storage.archive, storage.index)
    _look_again(found, node, index, acknowledged, sent)
    if verified.needs_a_person:
        found.troubles.append(f"verify finds: {verified}")
    if left := [path for path in staged(node) if path.suffix]:
        found.troubles.append(f"{len(left)} files are left in staging")
    return found


def _look_again(found: Found, node: Node, index: IndexUnderTest, acknowledged: set[str], sent: set[str]) -> None:
    """Compare visible files and rows with the acknowledged instances, after the node's start."""
    held = digests(visible(node))
    if half_written := sum(count for sha256, count in held.items() if sha256 not in sent):
        found.half_written = half_written
        found.troubles.append(f"{half_written} files hold what nobody sent")
    for what, there in (("visible file", set(held)), ("row in the index", index.rows())):
        if without := acknowledged - there:
            found.index_faults += 1
            found.troubles.append(f"{len(without)} acknowledged instances have no {what}")


@contextlib.contextmanager
def index_on(mount_points: list[Path], kind: str, programs: Path) -> Iterator[IndexUnderTest]:
    """Yield the index on the archive's volume, or on one of its own; a server runs in the block, and is then killed."""
    index: IndexUnderTest
    if kind == "postgresql":
        index = PostgreSQLIndex(mount_points[1], programs)
    elif kind == "sqlite apart":
        index = SQLiteIndex(mount_points[1] / "index" / "index.sqlite")
    else:
        index = SQLiteIndex(mount_points[0] / "data" / "index.sqlite")
    index.start()
    try:
        yield index
    finally:
        index.kill()


def settings_on(index: IndexUnderTest) -> dict[str, dict[str, object]]:
    return {"index": {"url": index.url}, **FOR_THE_WORKLOAD}


def environment(mount_points: list[Path], more: Mapping[str, str]) -> dict[str, str]:
    return {"BACKUP_SCP_HOME": str(mount_points[0] / "data"), **more}


def copied(image: Path, to: Path) -> Path:
    """Copy a sparse file, replacing an existing one."""
    run("cp", "--sparse=always", "--reflink=auto", image, to)
    return to


def in_a_child(function, *arguments: object) -> Found:
    """Let a forked process do it: whatever it holds open on the volume is closed with its end."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_answer, args=(there, function, arguments))
    gc.freeze()
    child.start()
    there.close()
    try:
        found: Found = here.recv()
    except EOFError:
        child.join()
        found = Found(troubles=[f"the check ended with {child.exitcode} and without a word"])
    child.join()
    return found


def _answer(there: Connection, function, arguments) -> None:
    try:
        found = function(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever the start of the node raises is a finding
        found = Found(troubles=[f"{type(error).__name__}: {error}"])
    there.send(found)
