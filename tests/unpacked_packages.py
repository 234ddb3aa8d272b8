"""Programs of Debian packages that are not to be installed: two that exclude each other, or one that starts a service.

``python -m tests.unpacked_packages`` downloads each package, with the libraries that this system lacks, and unpacks
them below build/; nothing of the system changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, clean_environment, peer_missing

FOLDER = ROOT / "build" / "packages"

PACKAGES = {
    "rsyslog": ("rsyslog", "rsyslog-openssl"),
    "syslog-ng": ("syslog-ng-core",),
    "prometheus": ("prometheus",),
}
"""What is unpacked together, by the name of its folder."""

_LIBRARY = re.compile(r"lib(?!js)")
_PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A set of packages, unpacked.

    Attributes
    ----------
    folder
        Stands for the root folder of a system.
    """

    folder: Path

    def program(self, name: str) -> str:
        """Return the path of a program; ``environment`` lets it find its libraries."""
        found = next((path for part in _PROGRAMS if (path := self.folder / part / name).is_file()), None)
        if found is None:
            peer_missing(name)
        return str(found)

    @property
    def libraries(self) -> list[Path]:
        """The folders of its libraries and of the plug-ins among them."""
        return sorted({file.parent for top in ("usr/lib", "lib") for file in self.folder.glob(f"{top}/**/*.so*")})

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which its programs find their libraries."""
        return clean_environment(LD_LIBRARY_PATH=os.pathsep.join(map(str, self.libraries)), **more)


def unpacked(name: str) -> Unpacked:
    """Return a set of packages; skip what needs it when it was not downloaded."""
    folder = FOLDER / name
    if not folder.is_dir():
        peer_missing(name)
    return Unpacked(folder)


def fetch() -> None:
    """Download and unpack what is missing; a set is whole as soon as its folder is there."""
    if shutil.which("apt-get") is None:
        return  # the tests that need it say so
    for name, packages in PACKAGES.items():
        if not (FOLDER / name).is_dir():
            _fetch(FOLDER / name, packages)


def _fetch(target: Path, packages: Sequence[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [*packages, *_missing_libraries(packages)]
    print(f"Unpacking {' '.join(wanted)}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        Path(folder).chmod(0o755)  # apt downloads as a user of its own
        subprocess.run(["apt-get", "download", "--quiet=2", *wanted], cwd=folder, check=True)
        whole = Path(folder) / "whole"
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, whole], check=True)
        shutil.rmtree(target, ignore_errors=True)
        whole.rename(target)


def _missing_libraries(packages: Sequence[str]) -> list[str]:
    told = _simulated(packages)
    if told.returncode:  # it may have no list of packages yet
        subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), "apt-get", "update", "--quiet=2"], check=True)
        told = _simulated(packages)
    if told.returncode:
        raise SystemExit(f"apt does not find {' '.join(packages)}: {told.stderr}")
    installed = re.findall(r"^Inst (\S+)", told.stdout, re.MULTILINE)
    return [name for name in installed if _LIBRARY.match(name) and name not in packages]


def _simulated(packages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Ask apt what it would install with them; nothing is locked or changed."""
    asked = ["apt-get", "install", "--simulate", "--no-install-recommends", "--option=Debug::NoLocking=1", *packages]
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(asked, check=False, capture_output=True, text=True, env=environment)


if __name__ == "__main__":
    fetch()
