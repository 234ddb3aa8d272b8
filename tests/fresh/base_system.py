"""A minimal Debian of this machine's release, which the tests of packages share; debootstrap makes it once."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fresh.host import mirror
from tests.processes import ROOT, peer_missing

_SYSTEMS = ROOT / "build" / "systems"
_ALSO = "systemd-sysv,python3,python3-venv,ca-certificates,adduser"


def base_system() -> Path:
    """Return the folder of the system; copy it before you change it."""
    for program in ("debootstrap", "systemd-nspawn", "buildah", "dpkg-buildpackage", "dh"):
        if not shutil.which(program):
            peer_missing(program)
    if os.geteuid() != 0:
        pytest.skip("only root can make a system of its own")
    release = platform.freedesktop_os_release()
    if release["ID"] != "debian":
        pytest.skip("a package is made for the Debian release that it is made on")
    system = _SYSTEMS / release["VERSION_CODENAME"]
    _SYSTEMS.mkdir(parents=True, exist_ok=True)
    with (_SYSTEMS / "lock").open("w") as lock:  # several processes of the tests want it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not system.exists():
            _make(release["VERSION_CODENAME"], system)
    return system


def _make(suite: str, system: Path) -> None:
    unfinished = system.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    hurried = unfinished / "etc/dpkg/dpkg.cfg.d/hurried"  # dpkg flushes each file otherwise: a minute
    hurried.parent.mkdir(parents=True)
    hurried.write_text("force-unsafe-io\n")
    argv = ["debootstrap", "--variant=minbase", f"--include={_ALSO}", suite, str(unfinished), *filter(None, [mirror()])]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    hurried.unlink()
    shutil.rmtree(unfinished / "var/cache/apt", ignore_errors=True)
    unfinished.rename(system)


def copy_of(system: Path, into: Path) -> Path:
    """Copy a system with its owners, modes and links."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(system), str(into)], check=True)
    return into
