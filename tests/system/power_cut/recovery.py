"""A home that is being recovered while its power is cut: what it says is here is whole, and `recover` goes on.

The rows are those of the other power cuts. `acknowledged` counts, over all cuts, the images that `status` said were
here, and those that were received meanwhile; `lost` those of them that are not; `half_written` visible files with other
bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup_scp.errors import BackupSCPError
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.ports import RECOVERED, RECOVERY
from backup_scp.services.verify import verify
from tests.processes import ROOT, wait_until
from tests.samples import Sample, ct_series, dx, encode, replace, secondary_capture
from tests.system.contents import left_by_a_crash, visible, whole
from tests.system.node import Node
from tests.system.power_cut.block_log import MARK, LogRecord
from tests.system.power_cut.crash_points import CrashPoints, Found, Points, Recording, in_a_child
from tests.system.power_cut.cutting import Result
from tests.system.power_cut.indexes import SQLiteIndex
from tests.system.power_cut.volume import FOR_THE_WORKLOAD, Volume
from tests.system.recovering_home import MADE_IN_TURN, RecoveringHome
from tests.system.test_recover import Clinic, files, rows

SAMPLES = [
    *(encode(ds) for ds in ct_series(12)),
    *(encode(dx(study=str(number), PixelData=bytes(2**18))) for number in range(4)),
    *(encode(secondary_capture(study="sc", series=str(100 + number))) for number in range(14)),
]
ONLY_LISTED = [encode(ds) for ds in ct_series(3, study="listed")]

_HOME_BYTES = 300 << 20
_A_BATCH = "4"
_THROTTLE = ("--throttle", "1")
_MOST_CUTS = 6
_WHOLE = "whole"
_SAID = "SELECT name, done FROM task WHERE name IN (?, ?)"


@dataclass
class RecoveryResult(Result):
    """What power cuts at random moments did."""

    moments: dict[str, int] = field(default_factory=dict)
    """How far the recovery was."""


@dataclass
class RecoveryPoints(Points):
    """What crash points showed."""

    moments: dict[str, int] = field(default_factory=dict)


@dataclass
class LostClinic:
    """A drive, and what was in the home that is gone: files by location, and what its index said."""

    drive: Path
    before: dict[str, bytes]
    told: list[str]

    @classmethod
    def made(cls, folder: Path) -> LostClinic:
        """Fill a drive, with images that its index knows and others that only its lists know, and lose the node."""
        folder.mkdir()

        def make_node(**arguments) -> Node:
            return Node(folder / "lost", settings=FOR_THE_WORKLOAD, **arguments)

        clinic = Clinic(folder, make_node)
        try:
            clinic.copy(SAMPLES)
            clinic.copy(ONLY_LISTED)
            told = rows(clinic.node)
            return cls(clinic.drive, clinic.lose(), told)
        finally:
            clinic.node.close()

    def home(self, folder: Path, work: Path, env: Mapping[str, str]) -> RecoveringHome:
        """Return a new home in a folder; its batches are small, and its programs write below `work`."""
        path = os.pathsep.join(map(str, (Path(__file__).with_name("unflushed"), ROOT)))
        node = Node(work, ae_title="CLINIC", env={**env, "PYTHONPATH": path, "BACKUP_SCP_TEST_BATCH": _A_BATCH})
        node.home = folder / "data"
        node.env["BACKUP_SCP_HOME"] = str(node.home)
        return RecoveringHome(node, self.drive)


def look(home: RecoveringHome, clinic: LostClinic, received: set[str], said: int) -> Found:
    """Compare what is visible with what was there, before anything is started again.

    `said` is how many images were said to be here before the cut; the index may say more.
    """
    found, index = Found(), home.node.home / "index.sqlite"
    now = files(home.node)
    if damaged := [name for name, raw in now.items() if clinic.before.get(name, raw) != raw]:
        found.half_written = len(damaged)
        found.troubles.append(f"{len(damaged)} visible files are damaged: {damaged[:3]}")
    if index.exists():
        try:
            SQLiteIndex(index).rows()
            with SQLiteIndex(index).copied_file() as path:
                said = max(said, _said(path, clinic))
        except ValueError as error:
            found.index_faults = 1
            found.troubles.append(f"the index is damaged: {error}")
    here = whole(visible(home.node)) | left_by_a_crash(home.node)
    lost = max(0, said - len(here)) + len(received - here)
    found.acknowledged = said + len(received)
    if lost:
        found.lost = lost
        found.troubles.append(f"{lost} of {found.acknowledged} images that were said to be here are not")
    return found


def _said(index: Path, clinic: LostClinic) -> int:
    """Return how many images `status` calls here."""
    with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection:
        said = dict(connection.execute(_SAID, (RECOVERY, RECOVERED)).fetchall())
    return len(clinic.before) if RECOVERED in said else said.get(RECOVERY, 0)


def _finish(home: RecoveringHome, received: set[str]) -> None:
    """Let it go on to its end; a recovery that had ended starts no node, which looks after what the cut has left."""
    home.finish()
    if received - whole(visible(home.node)):
        home.serve()


def _compare_the_end(home: RecoveringHome, clinic: LostClinic, received: set[str]) -> Found:
    """Compare the home, after `recover` has ended, with the one that was lost."""
    node, found = home.node, Found()
    now = files(node)
    if wrong := [name for name, raw in clinic.before.items() if now.get(name) != raw]:
        found.troubles.append(f"after the end {len(wrong)} files are missing or differ: {wrong[:3]}")
    if gone := received - whole(visible(node)):
        found.troubles.append(f"after the end {len(gone)} images that were received are gone")
    with OpenStores(load(node.config, node.env)) as storage:
        verified = verify(storage.archive, storage.index)
        versions = storage.index.holdings().versions
    if verified.needs_a_person or not verified.intact == versions == len(now):
        found.troubles.append(f"verify finds: {verified}; {versions} rows, {len(now)} files")
    return found


def _meanwhile(number: int) -> Sample:
    """Return an image that a console sends while the home is being recovered."""
    return encode(replace(ct_series(1, study=f"meanwhile {number}")[0], PatientID="NEW"))


def _send(home: RecoveringHome, received: set[str], number: int) -> bool:
    """Send one if the node answers; True when it was stored."""
    if not home.node.echo():
        return False
    sample = _meanwhile(number)
    with contextlib.suppress(ConnectionError):
        if home.node.send([sample])[0].status == 0:
            received.add(sample.sha256)
    return sample.sha256 in received


class RecoveryCuts:
    """Cuts at random moments of recoveries, some in a row of the same one."""

    def __init__(self, work: Path, file_system: str, clinic: LostClinic, seed: int, env: Mapping[str, str]) -> None:
        self._work = work / f"recovery-{file_system}"
        self._work.mkdir()
        self._clinic, self._seed, self._env = clinic, seed, env
        self.result = RecoveryResult(file_system, "sqlite", 1)

    def run(self, cycles: int) -> list[Result]:
        while self.result.cycles < cycles:
            drawn_from = f"{self._seed}/{self.result.file_system}/{self.result.cycles}"
            chance = random.Random(drawn_from)
            name = str(self.result.cycles)
            volume = Volume.new(self._work, name, self.result.file_system, _HOME_BYTES)
            home = self._clinic.home(volume.path, self._work / f"{name}-node", self._env)
            cuts = min(cycles - self.result.cycles, chance.randint(1, _MOST_CUTS))
            try:
                self.result.troubles += [f"{drawn_from}: {each}" for each in self._one(volume, home, cuts, chance)]
            finally:
                home.process.kill()
                volume.remove()
        return [self.result]

    def _one(self, volume: Volume, home: RecoveringHome, cuts: int, chance: random.Random) -> list[str]:
        """Cut one recovery some times, and let it end."""
        received: set[str] = set()
        for number in range(cuts):
            self._cut(volume, home, received, number, chance)
            found = look(home, self._clinic, received, 0)
            _add(self.result, found, home)
            self.result.cycles += 1
            if found.troubles:
                return found.troubles
        try:
            _finish(home, received)
            home.assert_is_as_before(self._clinic.before, self._clinic.told)
        except (AssertionError, OSError, BackupSCPError) as error:
            return [f"after the cuts: {type(error).__name__}: {error}"]
        return _compare_the_end(home, self._clinic, received).troubles

    def _cut(
        self, volume: Volume, home: RecoveringHome, received: set[str], number: int, chance: random.Random
    ) -> None:
        home.begin(*_THROTTLE)
        self._wait(home, _moment(home, chance))
        if chance.random() < 0.5:
            _send(home, received, number)
        time.sleep(chance.choice((0, chance.uniform(0, 0.3))))
        volume.cut()
        home.process.kill()
        volume.unmount()
        volume.mount()  # which replays the log
        volume.unmount()
        self.result.unsound += not volume.is_sound()
        volume.mount()

    def _wait(self, home: RecoveringHome, what: Callable[[], bool]) -> None:
        wait_until(lambda: not home.process.running or home.is_whole or what(), 100)


def _moment(home: RecoveringHome, chance: random.Random) -> Callable[[], bool]:
    """Draw what to wait for: something of a home that is being made, or some images more."""
    if chance.random() < 0.5 and (to_come := [name for name in MADE_IN_TURN if not (home.node.home / name).exists()]):
        return (home.node.home / chance.choice(to_come)).exists
    enough = home.images() + chance.randrange(1, 12)
    return lambda: home.images() >= enough


def _add(row: RecoveryResult | RecoveryPoints, found: Found, home: RecoveringHome) -> None:
    for name in ("acknowledged", "lost", "half_written", "index_faults"):
        setattr(row, name, getattr(row, name) + getattr(found, name))
    moment = home.state()
    row.moments[moment] = row.moments.get(moment, 0) + 1


class RecoveryRecording(Recording):
    """One recovery onto a disk that is logged, with what was said meanwhile."""

    def __init__(self, work: Path, points: Points, seed: int, env: Mapping[str, str], clinic: LostClinic) -> None:
        super().__init__(work, points, seed, env)
        self.clinic = clinic

    def _work_until(self, instances: int, marks: Path, mount_points: list[Path]) -> None:
        home = self.clinic.home(mount_points[0], self._work / "node", self._env)
        received: set[str] = set()
        try:
            with marks.open("wb", buffering=0) as stream:
                home.begin(*_THROTTLE, "--stop-when-done")
                for mark in self._marks(home, received, instances):
                    stream.write(f"{mark}\n".encode())
                assert home.process.wait() == 0, home.process.tail()
                assert home.is_whole, home.process.tail()
                stream.write(f"{_WHOLE}\n".encode())
        finally:
            home.process.kill()

    def _marks(self, home: RecoveringHome, received: set[str], instances: int) -> Iterator[str]:
        """Yield what is said while it runs: the images received, and the number of those that are here."""
        last, number, index = 0, 0, home.node.home / "index.sqlite"
        while home.process.running:
            with contextlib.suppress(sqlite3.Error):
                if index.exists() and (said := _said(index, self.clinic)) > last:
                    last = said
                    yield f"here {said}"
            if len(received) < instances and last and _send(home, received, number):
                number += 1
                yield from received - self.ledger.sent.keys()
                self.ledger.sent.update(dict.fromkeys(received, ""))
            time.sleep(0.02)


class RecoveryCrashPoints(CrashPoints):
    """Builds the disk as of a point of the log, looks at it, and lets `recover` go on."""

    _recording: RecoveryRecording
    _points: RecoveryPoints

    def _drawn(self, records: Sequence[LogRecord], chance: random.Random, count: int) -> list[int]:
        """Draw the end, and of the others half after the first image: the writes before are many, and much alike."""
        marks = [point for point, record in enumerate(records, 1) if record.kind == MARK]
        later = chance.choices(range(marks[0], len(records) + 1), k=count // 2)
        return [marks[-1], *later, *chance.choices(range(1, marks[0]), k=count - 1 - len(later))]

    def _check(self, copies: list[Path], acknowledged: set[str], where: str) -> None:
        (image,) = copies
        volume = Volume(image, self._points.file_system, image.with_suffix(".mounted"))
        volume.path.mkdir(exist_ok=True)
        self._points.points += 1
        clinic = self._recording.clinic
        home = clinic.home(volume.path, self._work / f"node{self._points.points}", self._recording._env)
        volume.mount()
        try:
            found = self._found(home, clinic, acknowledged)
        except (AssertionError, OSError, BackupSCPError) as error:
            found = Found(troubles=[f"{type(error).__name__}: {error}"])
        finally:
            home.process.kill()
            volume.unmount()
        self._points.troubles += [f"{where}: {trouble}" for trouble in found.troubles]

    def _found(self, home: RecoveringHome, clinic: LostClinic, marks: set[str]) -> Found:
        said = [int(mark.removeprefix("here ")) for mark in marks if mark.startswith("here ")]
        received = {mark for mark in marks if " " not in mark and mark != _WHOLE}
        said += [len(clinic.before)] if _WHOLE in marks else []
        found = look(home, clinic, received, max(said, default=0))
        _add(self._points, found, home)
        if not found.troubles and _WHOLE not in marks:
            _finish(home, received)
        return found if found.troubles else in_a_child(_compare_the_end, home, clinic, received)


def run(
    work: Path, file_systems: list[str], cycles: int, points: int, seed: int, env: Mapping[str, str]
) -> Iterator[Result | Points]:
    """Yield a row for each file system, of cuts at random moments and of crash points."""
    clinic = LostClinic.made(work / "clinic")
    for number, file_system in enumerate(file_systems):
        if count := _share(cycles, number, len(file_systems)):
            yield from RecoveryCuts(work, file_system, clinic, seed, env).run(count)
    for number, file_system in enumerate(file_systems):
        if count := _share(points, number, len(file_systems)):
            row = RecoveryPoints(file_system, "sqlite", 1)
            recording = RecoveryRecording(work, row, seed, env, clinic)
            recording.run(instances=3)
            yield RecoveryCrashPoints(recording, work, row, seed).run(count)


def _share(count: int, number: int, parts: int) -> int:
    return count * (number + 1) // parts - count * number // parts
