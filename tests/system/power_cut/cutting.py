"""Power cuts at random moments under full load, and what remains of the acknowledged images."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup_scp.errors import BackupSCPError
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.services.verify import verify
from tests.system.contents import digests, left_by_a_crash, staged, visible, whole
from tests.system.finder import Finder, elements
from tests.system.node import Node
from tests.system.power_cut.drive import DriveCounts, DriveUnderTest
from tests.system.power_cut.indexes import IndexUnderTest, PostgreSQLIndex, SQLiteIndex
from tests.system.power_cut.volume import FOR_THE_WORKLOAD, Volume
from tests.system.power_cut.workload import Console, Ledger, Moment, Senders

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
SOP_INSTANCE_UID = 0x00080018
INDEXES = ("sqlite", "postgresql")

_VOLUME_BYTES = 600 << 20
_FULL_ENOUGH_BYTES = 150 << 20
_IN_A_COPY = 0.8


@dataclass
class Result:
    """What a number of power cuts did; a row of the table."""

    file_system: str
    index: str
    associations: int
    cycles: int = 0
    acknowledged: int = 0
    lost: int = 0
    half_written: int = 0
    index_faults: int = 0
    taken_in: int = 0
    """How many acknowledged ones the next start took from staging: they were not durable in their places yet."""
    interrupted: int = 0
    found_again: int = 0
    """Of those that were interrupted: there all the same, and whole."""
    answered_late: int = 0
    """Of those that were interrupted: answered with success after the file system's shutdown had begun.

    The kernel then lets an fsync succeed whose bytes it drops: docs/durability.md. No sender gets an answer from a
    machine without power, so these are told, not judged.
    """
    late_not_kept: int = 0
    unsound: int = 0
    """How often the file system's own check was not content, after its log was replayed."""
    troubles: list[str] = field(default_factory=list)
    drive: DriveCounts = field(default_factory=DriveCounts)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.half_written or self.index_faults or self.troubles) and self.drive.is_clean


class Site:
    """A node with its data on volumes of its own: the index of PostgreSQL lies on a second one, a drive on the last."""

    def __init__(
        self, folder: Path, work: Path, file_system: str, index: str, env: Mapping[str, str], *, has_drive: bool
    ) -> None:
        folder.mkdir()
        self.volumes = [Volume.new(folder, "archive", file_system, _VOLUME_BYTES)]
        home = self.volumes[0].path / "data"
        self.index: IndexUnderTest
        if index == "postgresql":
            self.volumes.append(Volume.new(folder, "index", file_system, _VOLUME_BYTES))
            self.index = PostgreSQLIndex(self.volumes[1].path, work)
        else:
            self.index = SQLiteIndex(home / "index.sqlite")
        self.drive: DriveUnderTest | None = None
        if has_drive:
            self.volumes.append(Volume.new(folder, "drive", file_system, _VOLUME_BYTES))
            self.drive = DriveUnderTest(self.volumes[-1].path)
        settings = FOR_THE_WORKLOAD | {"index": {"url": self.index.url}}
        copies = self.drive.copies if self.drive else ()
        self.node = Node(folder / "node", settings=settings, copies=copies, env={"BACKUP_SCP_HOME": str(home), **env})
        self.node.home = home

    def begin(self) -> None:
        self.index.start()
        if isinstance(self.index, PostgreSQLIndex):
            self.node.cli("db", "upgrade")
        self.node.start()
        if self.drive:
            self.drive.prepare(self.node)

    def wait_for_copying(self, chance: random.Random) -> None:
        """Wait until the drive is being written to, in most cases, and a little longer: see `Moment`."""
        if self.drive and chance.random() < _IN_A_COPY:
            self.drive.wait_for_work()
            time.sleep(chance.uniform(0, chance.choice((0.1, 1.0))))

    def cut(self, chance: random.Random) -> None:
        """Cut the power of all volumes at once, before any process can react.

        The drive's last: what it confirms while it is being shut down (see `answered_late`) reaches no index any more.
        """
        others = self.volumes[:-1] if self.drive else self.volumes
        for volume in (*chance.sample(others, len(others)), *self.volumes[len(others) :]):
            volume.cut()
        self.node.kill()
        self.index.kill()

    def power_on(self) -> int:
        """Mount the volumes again; return how many of them their own check finds fault with."""
        unsound = 0
        for volume in self.volumes:
            volume.unmount()
            volume.mount()  # which replays the log
            volume.unmount()
            unsound += not volume.is_sound()
            volume.mount()
        return unsound

    def close(self) -> None:
        self.node.kill()
        self.index.kill()
        for volume in self.volumes:
            volume.remove()


class Cutting:
    """Cycle after cycle on one site, with one and with four associations in turn, until its volume is full enough."""

    def __init__(
        self,
        work: Path,
        file_system: str,
        index: str,
        associations: Sequence[int],
        seed: int,
        env: Mapping[str, str],
        *,
        has_drive: bool = False,
    ) -> None:
        self._has_drive = has_drive
        self._work, self._file_system, self._index, self._seed, self._env = work, file_system, index, seed, env
        self.results = [Result(file_system, index, count) for count in associations]
        self._sites = 0
        self._ledger = Ledger()

    def run(self, cycles: int) -> list[Result]:
        left = deque(range(cycles))
        while left:
            with self._site() as site:
                site.begin()
                self._use(site, left)
        return self.results

    def _use(self, site: Site, left: deque[int]) -> None:
        """Cut its power until it is full enough, or something is lost: what follows from that counts no further."""
        result = self.results[0]
        while left and site.volumes[0].used_bytes() < _FULL_ENOUGH_BYTES:
            result = self.results[left[0] % len(self.results)]
            if troubles := list(self._cycle(site, left.popleft(), result)):
                result.troubles += troubles
                return
        site.node.stop()
        done = site.node.cli("verify", exit_code=None)
        result.troubles += [f"`backup-scp verify` says: {done.stdout}{done.stderr}"] if done.returncode else []
        if site.drive:
            result.troubles += site.drive.catch_up(site.node, result.drive, self._ledger.acknowledged)

    @contextlib.contextmanager
    def _site(self) -> Iterator[Site]:
        self._sites += 1
        self._ledger = Ledger()
        folder = self._work / f"{self._file_system}-{self._index}-{self._sites}"
        site = Site(folder, self._work, self._file_system, self._index, self._env, has_drive=self._has_drive)
        try:
            yield site
        finally:
            site.close()

    def _cycle(self, site: Site, cycle: int, result: Result) -> Iterator[str]:
        drawn_from = f"{self._seed}/{self._file_system}/{self._index}/{result.associations}/{cycle}"
        chance = random.Random(drawn_from)
        moment = Moment.drawn(chance, result.associations)
        where = f"{drawn_from} ({moment})"
        before = len(self._ledger.acknowledged)
        self._work_until(site, moment, [Console(drawn_from, n) for n in range(result.associations)], chance)
        result.cycles += 1
        result.acknowledged += len(self._ledger.acknowledged) - before
        try:
            result.unsound += site.power_on()
            site.index.start()
            for trouble in (*self._look_at_the_disk(site, result), *self._look_at_the_node(site, result)):
                yield f"{where}: {trouble}"
        except (AssertionError, OSError, BackupSCPError) as error:  # a program did not start, a peer gave up
            yield f"{where}: {type(error).__name__}: {error}"

    def _work_until(self, site: Site, moment: Moment, consoles: list[Console], chance: random.Random) -> None:
        senders = Senders(site.node, consoles, self._ledger, moment)
        moment.wait()
        site.wait_for_copying(chance)
        moment.over.set()
        site.cut(chance)
        senders.join()

    def _look_at_the_disk(self, site: Site, result: Result) -> Iterator[str]:
        """Compare files and journals with the sent instances, before any recovery, as one without the node can."""
        shown = whole(visible(site.node))
        held = shown | left_by_a_crash(site.node)
        if lost := set(self._ledger.acknowledged) - held:
            result.lost += len(lost)
            yield f"{len(lost)} of {len(self._ledger.acknowledged)} acknowledged instances have no file"
        result.taken_in += len(set(self._ledger.acknowledged) - shown)
        interrupted = set(self._ledger.interrupted)
        result.interrupted += len(interrupted)
        result.found_again += len(interrupted & held)
        late, self._ledger.late = self._ledger.late, set()
        result.answered_late += len(late)
        result.late_not_kept += len(late - held)
        try:
            site.index.rows()
        except ValueError as error:
            result.index_faults += 1
            yield f"the index is damaged: {error}"
        else:
            if site.drive:
                yield from site.drive.look_at(site.index, result.drive)
        self._ledger.give_up(lost)

    def _look_at_what_was_taken_in(self, site: Site, result: Result) -> Iterator[str]:
        """Compare visible files and rows with the acknowledged instances, after the node's start."""
        held = digests(visible(site.node))
        if half_written := sum(count for sha256, count in held.items() if sha256 not in self._ledger.sent):
            result.half_written += half_written
            yield f"{half_written} files hold what nobody sent"
        acknowledged = set(self._ledger.acknowledged)
        for what, there in (("visible file", set(held)), ("row in the index", site.index.rows())):
            if without := acknowledged - there:
                result.index_faults += 1
                yield f"{len(without)} acknowledged instances have no {what}"

    def _look_at_the_node(self, site: Site, result: Result) -> Iterator[str]:
        """Start the node again: it finds all its instances, and accepts the interrupted ones."""
        site.node.start()
        yield from self._look_at_what_was_taken_in(site, result)
        lacks = _uids(self._ledger.acknowledged) - (found := found_by_c_find(site.node))
        if lacks:
            yield f"{len(lacks)} acknowledged instances are not found by C-FIND"
        if found - _uids(self._ledger.sent):
            yield "C-FIND answers what nobody sent"
        if left := staged(site.node):
            yield f"{len(left)} files are left in staging"
        yield from self._verify(site)
        for sha256, answer in zip(
            list(self._ledger.interrupted), site.node.send(self._ledger.interrupted.values()), strict=True
        ):
            self._ledger.end(sha256, answer.status)
        if self._ledger.refused:
            yield f"refused before the power was cut, or after it came back: {Counter(self._ledger.refused)}"
            self._ledger.refused.clear()

    def _verify(self, site: Site) -> Iterator[str]:
        """Do what `backup-scp verify` does, without the start of a program."""
        settings = load(site.node.config, {"BACKUP_SCP_HOME": str(site.node.home)})
        with OpenStores(settings, create=True) as storage:
            found = verify(storage.archive, storage.index)
        if found.needs_a_person:
            yield f"verify finds: {found}"


def found_by_c_find(node: Node) -> set[str]:
    """Return every SOP Instance UID."""
    with Finder(node, STUDY_ROOT_FIND) as finder:
        _, answers = finder.ask("IMAGE", {SOP_INSTANCE_UID: b""})
    return {elements(answer)[SOP_INSTANCE_UID].rstrip(b"\0 ").decode() for answer in answers}


def _uids(instances: dict[str, str]) -> set[str]:
    return set(instances.values())
