"""A drive that is being filled while its power is cut: what the index calls copied is there, and nothing is doubled."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from backup_scp.machine import clock
from backup_scp.node.copy_places import open_place
from backup_scp.node.copy_setup import copying
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.services.ingest import Ingest
from tests.processes import wait_until
from tests.system.contents import digests
from tests.system.node import Node
from tests.system.power_cut.indexes import IndexUnderTest

_OWN = "BACKUPSC"
_PATIENCE_S = 120.0  # receiving goes first
_AFTER_ALL_LEASES = timedelta(minutes=2)


@dataclass
class DriveCounts:
    """What the power cuts did to the copy; further columns of the table."""

    copied: int = 0
    """How many the index called copied, over all cuts."""
    missing: int = 0
    """Of these: not there, or with other bytes."""
    not_caught_up: int = 0
    """Acknowledged images that the next run did not bring."""
    doubled: int = 0
    cuts_in_the_middle: int = 0
    """How often a temporary file was on the drive after the cut."""

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.not_caught_up or self.doubled)

    def add(self, other: DriveCounts) -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


class DriveUnderTest:
    """The folder of a copy on a volume of its own."""

    def __init__(self, mount_point: Path) -> None:
        self.folder = mount_point / "x-rays"
        self.copies = [{"name": "drive", "url": f"file://{self.folder}"}]

    def prepare(self, node: Node) -> None:
        """Make it a drive of a running node."""
        node.cli("copies", "init", "drive", "--label", "under test")

    @property
    def is_prepared(self) -> bool:
        return (self.folder / "BACKUP-SCP.json").exists()

    def wait_for_work(self) -> None:
        """Return when the node writes images to it."""
        wait_until(self.is_at_work, _PATIENCE_S, what="a copy under way")

    def is_at_work(self) -> bool:
        """Tell whether it has an unfinished file."""
        return any(path.name != "LOCK" for path in self.folder.glob(f"{_OWN}/TEMP/*/*"))

    def wait_for_lists(self, count: int) -> None:
        """Return when so many batches are listed."""
        wait_until(lambda: len(list(self._lists())) >= count, _PATIENCE_S, what=f"{count} lists on the drive")

    def wait_for_conclusion(self, more_than: int = 0) -> int:
        """Return how many images its lists name, when it stands alone and they are more than before."""
        return wait_until(lambda: self._concluded(more_than), _PATIENCE_S, what="up to date lists on the drive")

    def _concluded(self, more_than: int) -> int:
        is_busy = not (self.folder / _OWN / "INDEX.TXT").exists() or any((self.folder / _OWN / "NEW").iterdir())
        with contextlib.suppress(FileNotFoundError):  # a list has just been replaced
            return count if not is_busy and (count := len(self._listed())) > more_than else 0
        return 0

    def look_at(self, index: IndexUnderTest, counts: DriveCounts) -> Iterator[str]:
        """Compare it with what the index says of it, and with its own lists, before anything is started again."""
        counts.cuts_in_the_middle += self.is_at_work()
        copied = index.copied()
        counts.copied += len(copied)
        counts.missing += len(self._lost(copied))
        for what, said in (("the index calls copied", copied), ("lists on the drive name", self._listed())):
            if lost := self._lost(said):
                yield f"{len(lost)} of {len(said)} files that {what} are missing or damaged there: {lost[:3]}"

    def _lost(self, said: Mapping[str, str]) -> list[str]:
        return [name for name, sha256 in said.items() if _sha256(self.folder / name) != sha256]

    def _lists(self) -> Iterator[Path]:
        yield from self.folder.glob("*/*/SHA256*.TXT")
        yield from self.folder.glob(f"{_OWN}/NEW/SHA256*.TXT")

    def _listed(self) -> dict[str, str]:
        """Return what `sha256sum -c` would check."""
        found = {}
        for path in self._lists():
            for line in path.read_text().splitlines():
                if not line.startswith("#"):
                    sha256, _, name = line.partition("  ")
                    found[name] = sha256
        return found

    def _images(self) -> dict[str, Path]:
        found = {str(path.relative_to(self.folder)): path for path in self.folder.glob("*/*/*/*/*/*") if path.is_file()}
        return {name: path for name, path in found.items() if path.name != "DICOMDIR" and not name.startswith(_OWN)}

    def catch_up(self, node: Node, counts: DriveCounts, acknowledged: Collection[str]) -> Iterator[str]:
        """Run the copy once more, as the node would do in a minute; then it has everything once, and its lists too.

        The minute is the lease of a batch that the cut ended.
        """
        if not self.is_prepared:
            return
        yield from self._fill(node)
        images, listed = self._images(), self._listed()
        held = digests(images.values())
        if doubled := sum(count - 1 for count in held.values()):
            counts.doubled += doubled
            yield f"{doubled} images are on the drive twice"
        if without := set(acknowledged) - set(held):
            counts.not_caught_up += len(without)
            yield f"{len(without)} acknowledged images are not on the drive after the next run"
        if set(images) != set(listed):
            yield f"the lists name {len(listed)} files, the drive has {len(images)}"
        if lost := self._lost(listed):
            yield f"{len(lost)} listed files are damaged after the next run"
        if list((self.folder / _OWN / "NEW").iterdir()) or self.is_at_work():
            yield "new lists or temporary files stay on the drive"

    def _fill(self, node: Node) -> Iterator[str]:
        node.write_settings()
        settings = load(node.config, {"BACKUP_SCP_HOME": str(node.home)})
        now = clock.now
        with (
            OpenStores(settings, create=True) as storage,
            patch.object(clock, "now", lambda: now() + _AFTER_ALL_LEASES),
            open_place(settings, settings.copy[0], storage.index) as place,
        ):
            work = copying(settings, place, storage, Ingest(storage.archive, storage.index))
            work.fill(work.register())
            if not work.done.is_complete:
                yield f"something is still due after the next run: {work.done}"


def _sha256(path: Path) -> str:
    """Return the digest of a file; empty without one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""
