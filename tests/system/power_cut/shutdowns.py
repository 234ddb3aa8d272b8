"""The power cut tool alone: append to a file and flush it while its file system is shut down.

The one who is flushing at that moment may hear of a success whose bytes are dropped. So `cutting` judges what was
answered before the shutdown began, and only tells of the rest.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.processes import wait_until
from tests.system.power_cut.volume import Volume, run

_VOLUME_BYTES = 300 << 20  # the least that mkfs.xfs makes
_RECORD_BYTES = 8


@dataclass
class Shutdowns:
    """What a number of shutdowns did to records that were flushed one by one; a row of the table."""

    file_system: str
    shutdowns: int = 0
    before: int = 0
    """Flushed with success before the shutdown began."""
    lost: int = 0
    during: int = 0
    """The same, but the success came only while it was at it."""
    during_not_kept: int = 0

    @property
    def is_clean(self) -> bool:
        return not self.lost


class _Appending(threading.Thread):
    """Appends a number, flushes it, and counts the successes, until a call fails."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.begun = threading.Event()
        """Set when the shutdown begins."""
        self.before = 0
        self.after = 0

    def wait_for(self, successes: int) -> None:
        wait_until(lambda: self.before >= successes or not self.is_alive(), what=f"{successes} records")

    def run(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, (self.before + self.after + 1).to_bytes(_RECORD_BYTES, "little"))
                os.fdatasync(descriptor)
                if self.begun.is_set():
                    self.after += 1
                else:
                    self.before += 1
        os.close(descriptor)


def shut_down(file_system: str, work: Path, count: int, seed: int) -> Shutdowns:
    """Shut one volume down so many times, each time with a new file."""
    result = Shutdowns(file_system)
    folder = work / f"shutdowns-{file_system}"
    folder.mkdir()
    volume = Volume.new(folder, "volume", file_system, _VOLUME_BYTES)
    chance = random.Random(f"{seed}/{file_system}")
    for number in range(count):
        path = volume.path / str(number)
        path.touch()
        run("sync", "-f", path)  # its name is not what this is about
        appending = _Appending(path)
        appending.start()
        appending.wait_for(chance.randint(1, 1000))
        appending.begun.set()
        volume.cut()
        appending.join()
        volume.unmount()
        volume.mount()
        result.shutdowns += 1
        result.before += appending.before
        result.during += appending.after
        kept = _kept(path)
        result.lost += max(0, appending.before - kept)
        result.during_not_kept += max(0, appending.before + appending.after - max(kept, appending.before))
    volume.remove()
    return result


def _kept(path: Path) -> int:
    """Count the records up to the first that is not there."""
    raw = path.read_bytes()
    numbers = (int.from_bytes(raw[at : at + _RECORD_BYTES], "little") for at in range(0, len(raw), _RECORD_BYTES))
    return next((at for at, number in enumerate(numbers) if number != at + 1), len(raw) // _RECORD_BYTES)
