"""A file system on a loop device, with a power cut (Linux, root)."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

from tests.processes import wait_until

FILE_SYSTEMS = ("ext4", "xfs")

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number; the flag is what `xfs_io -x -c shutdown` gives.
_SHUTDOWN, _WITHOUT_LOG_FLUSH = 0x8004587D, 2
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_MAKE = {
    # Nothing is left to a thread that would write tables long after.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-N", "16384"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
# Nothing is durable by the time alone: ext4 would flush its log every five seconds.
_OPTIONS = {"ext4": "loop,commit=900", "xfs": "loop"}
_LOOK = {"ext4": ("e2fsck", "-f", "-n"), "xfs": ("xfs_repair", "-n")}

FOR_THE_WORKLOAD: dict[str, dict[str, object]] = {"archive": {"reserve_mb": 0}, "alerts": {"changed_studies": 0}}
"""Settings without which nothing would be stored on a volume of the test's size, and no copy made of what consoles
correct so often."""


def run(*argv: str | Path) -> None:
    """Run a program of the system; the error has its output."""
    done = _done(*argv)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, argv))} ended with {done.returncode}: {done.stdout.strip()}")


def _done(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, argv)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{_PATH}", "LC_ALL": "C.UTF-8"},
    )


def make_image(image: Path, file_system: str, size_bytes: int) -> None:
    """Make a sparse file with an empty file system in it."""
    with image.open("xb") as file:
        file.truncate(size_bytes)
    run(*_MAKE[file_system], image)


class Volume:
    """One image and where it is mounted.

    The loop device goes with the mount, and the mount with the namespace of a harness that dies: ADR 0013 says what may
    stay behind all the same.
    """

    def __init__(self, image: Path, file_system: str, mount_point: Path) -> None:
        self.image, self.file_system, self.path = image, file_system, mount_point

    @classmethod
    def new(cls, folder: Path, name: str, file_system: str, size_bytes: int) -> Volume:
        """Make one in a folder, and mount it."""
        mount_point = folder / name
        mount_point.mkdir()
        volume = cls(folder / f"{name}.img", file_system, mount_point)
        make_image(volume.image, file_system, size_bytes)
        volume.mount()
        return volume

    def mount(self) -> None:
        run("mount", "-o", _OPTIONS[self.file_system], "-t", self.file_system, self.image, self.path)

    def unmount(self) -> None:
        """Unmount, as soon as the last of the killed processes has let go."""
        wait_until(lambda: _done("umount", self.path).returncode == 0, what=f"{self.path} unmounted")

    def cut(self) -> None:
        """Cut the power: every later write fails, and unflushed writes are lost."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def is_sound(self) -> bool:
        """Return the output of the file system's own check of the unmounted volume; repair nothing."""
        return _done(*_LOOK[self.file_system], self.image).returncode == 0

    def used_bytes(self) -> int:
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def remove(self) -> None:
        self.unmount()
        self.image.unlink()
        self.path.rmdir()
