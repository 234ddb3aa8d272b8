"""External drives as people have them: images of file systems on loop devices, plugged in and pulled (Linux, root)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.mounts import Mounts
from tests.system.peers import require

FILE_SYSTEMS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "exfat": ["mkfs.exfat"],
    "ntfs": ["mkfs.ntfs", "--quiet", "--fast", "--force"],
    "fat32": ["mkfs.vfat", "-F", "32"],
}


class Drive:
    """A drive of one file system; its image file is what the medium holds.

    FAT32 is mounted by fusefat, which takes the image itself: few kernels here know vfat.
    """

    def __init__(self, image: Path, kind: str, megabytes: int) -> None:
        self.image, self.kind, self._device = image, kind, ""
        self.folder: Path | None = None
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        program, *options = FILE_SYSTEMS[kind]
        _run(require(program), *options, str(image))

    def plug(self, folder: Path) -> None:
        """Connect and mount it."""
        folder.mkdir(exist_ok=True)
        source = str(self.image)
        if self.kind != "fat32":
            self._device = source = _run("losetup", "--find", "--show", source).strip()
        mount = {
            "ext4": ["mount", "-t", "ext4"],
            "exfat": [require("mount.exfat-fuse")],
            "ntfs": [require("ntfs-3g")],
            "fat32": [require("fusefat"), "-o", "rw+"],
        }[self.kind]
        _run(*mount, source, str(folder))
        self.folder = folder

    def pull(self) -> None:
        """Unmount it while it is in use, and detach its device."""
        if self.folder is not None:
            _run("umount", "--lazy", str(self.folder))
            self.folder = None
        if self._device:
            _run("losetup", "--detach", self._device)
            self._device = ""

    def shrink(self, megabytes: int) -> None:
        """Let its device fail from there on (EIO), as a dying one does."""
        with self.image.open("r+b") as file:
            file.truncate(megabytes << 20)
        _run("losetup", "--set-capacity", self._device)

    def flip(self, content: bytes) -> int:
        """Change a byte of the medium wherever it holds this content; return in how many places."""
        raw = self.image.read_bytes()
        found, at = 0, raw.find(content)
        with self.image.open("r+b") as file:
            while at >= 0:
                file.seek(at)
                file.write(bytes([content[0] ^ 1]))
                found, at = found + 1, raw.find(content, at + 1)
        return found


class Drives:
    """Makes drives; all are pulled at the end."""

    def __init__(self, folder: Path, mounts: Mounts) -> None:
        self._folder, self._mounts = folder, mounts  # mounts of this test alone
        self._made: list[Drive] = []

    def make(self, kind: str, megabytes: int = 48) -> Drive:
        if not Path("/dev/loop-control").exists():
            pytest.skip("there are no loop devices")
        drive = Drive(self._folder / f"drive{len(self._made)}.img", kind, megabytes)
        self._made.append(drive)
        return drive

    def close(self) -> None:
        for drive in self._made:
            drive.pull()


def _run(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
