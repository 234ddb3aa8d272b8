"""List the disks of this machine that files can be kept on, with their free space."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_LOCAL = frozenset(
    {"apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs", "ntfs", "ntfs3"}
    | {"overlay", "vfat", "xfs", "zfs"}
)
_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3", "smbfs"})
_OF_THE_SYSTEM = re.compile(r"/(boot|dev|efi|proc|snap|sys|var/lib/(containers|docker|kubelet)|run(?!/media/))(/|$)")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Disk:
    """A local file system that can be written.

    Attributes
    ----------
    path
        Where it is mounted.
    free_bytes, size_bytes
        What users other than root may fill, and its size.
    device
        Its number, ``st_dev``.
    """

    path: Path
    free_bytes: int
    size_bytes: int
    device: int


def disks(mounts: Path = _MOUNTS) -> list[Disk]:
    """Return the local disks, each once, the one with most room first; empty on other systems than Linux.

    Network shares are left out: one that does not answer would hold the caller.
    """
    found: dict[int, Disk] = {}
    for path, kind, is_writable in sorted(_mounted(mounts)):
        if kind not in _LOCAL or not is_writable or _OF_THE_SYSTEM.match(str(path)):
            continue
        with suppress(OSError):
            device = path.stat().st_dev
            if path.is_dir() and device not in found:
                usage = shutil.disk_usage(path)
                found[device] = Disk(path, usage.free, usage.total, device)
    return sorted(found.values(), key=lambda disk: -disk.free_bytes)


def is_network_share(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Tell whether a folder is, or will be, on a file system of another computer."""
    kinds = {path: kind for path, kind, _ in _mounted(mounts)}  # a later mount hides an earlier one
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "") in _NETWORK


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there.

    Raises
    ------
    PermissionError
    """
    while not folder.exists():
        folder = folder.parent
    return folder


def _mounted(mounts: Path) -> Iterator[tuple[Path, str, bool]]:
    """Yield place and type of what is mounted, and whether it can be written (proc_pid_mountinfo(5))."""
    with suppress(OSError):
        for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split(maxsplit=1)
            if len(fields) > 5 and kind:
                place = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
                yield Path(place), kind[0], "rw" in fields[5].split(",")
