"""Disks that only this test sees: small, read-only, or missing ones (Linux, root)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000


class Mounts:
    """Mounts for this thread and the processes that it starts."""

    def disk(self, folder: Path, size: str, files: int = 0) -> None:
        """Mount an empty disk of this size, with room for so many files."""
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size}" + (f",nr_inodes={files}" if files else "")
        _run("mount", "-t", "tmpfs", "-o", options, "none", str(folder))

    def bind(self, disk: Path, folder: Path) -> None:
        """Mount a folder at a second place, as a drive that is plugged in."""
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(disk), str(folder))

    def pull(self, folder: Path) -> None:
        """Unmount the drive, even while it is in use, so that the empty folder is left."""
        _run("umount", "--lazy", str(folder))

    def read_only(self, disk: Path, folder: Path) -> None:
        """Make a folder read-only, even while it is in use, as the system does after disk errors."""
        self.pull(folder)
        self.bind(disk, folder)
        _run("mount", "-o", "remount,bind,ro", str(folder))


@contextlib.contextmanager
def private_mounts() -> Iterator[Mounts]:
    """Hide mounts of the block from other processes, and remove them after it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs a mount namespace of its own: Linux and root")
    libc = ctypes.CDLL(None, use_errno=True)
    before = Path.cwd()
    with open("/proc/thread-self/ns/mnt") as ours:  # noqa: PTH123
        if libc.unshare(_CLONE_NEWNS):
            pytest.skip(f"no mount namespace can be made here: {os.strerror(ctypes.get_errno())}")
        try:
            _run("mount", "--make-rprivate", "/")
            yield Mounts()
        finally:
            libc.unshare(_CLONE_FS)  # threads that were started here may still share it
            assert libc.setns(ours.fileno(), _CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
            os.chdir(before)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Fill a disk but for so many bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free - leave_bytes) > 0:
            file.write(bytes(min(free, 1 << 20)))
    return filler


def _run(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True, text=True)
