"""The Debian package in a fresh Debian whose systemd runs: installed, watched over, upgraded and purged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fresh.base_system import base_system, copy_of
from tests.processes import ROOT, Process, Processes, clean_environment, wait_until
from tests.samples import dx, encode
from tests.test_packaging import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

_UNIT = "backup-scp.service"
_HANGS_SOON = "[Service]\nWatchdogSec=3\nRestartSec=0\n"
# What other packages and systemd write on their own.
_MAY_CHANGE = (
    "dev/",
    "proc/",
    "run/",
    "sys/",
    "tmp/",
    "var/cache/",
    "var/log/",
    "var/lib/dpkg/",
    "var/lib/systemd/",
    "etc/machine-id",
    "etc/.updated",
    "var/.updated",
    "root/",
    "srv/",
    "var/tmp/",
)


class Machine:
    """A Debian that has booted; its network is a loopback of its own."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        argv = ["systemd-nspawn", f"--directory={folder}", "--boot", "--register=no", "--keep-unit"]
        self.process = Process([*argv, "--private-network", "--console=pipe"], log, clean_environment())

    def boot(self) -> None:
        self.process.launch(lambda: self.says("systemctl", "is-system-running") in {"running", "degraded"}, 120)

    def says(self, *argv: str, exit_code: int | None = None) -> str:
        """Run a command inside, and return its output; check its exit code, if one is named."""
        leader = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not leader:
            return ""
        inside = ["nsenter", f"--target={leader[0]}", "--all", *argv]
        done = subprocess.run(
            inside,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=200,
        )
        assert exit_code is None or done.returncode == exit_code, f"{argv}: {done.returncode}\n{done.stdout}"
        return done.stdout.strip()

    def property_of_the_unit(self, name: str) -> str:
        return self.says("systemctl", "show", "--property", name, "--value", _UNIT)

    def files(self) -> set[str]:
        paths = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        return {path for path in paths if not path.startswith(_MAY_CHANGE)}


@pytest.fixture
def machine(tmp_path, processes: Processes) -> Iterator[Machine]:
    found = Machine(copy_of(base_system(), tmp_path / "system"), tmp_path / "boot.log")
    processes.add(found.process)
    found.boot()
    yield found
    found.process.terminate()
    shutil.rmtree(found.folder)


@pytest.fixture
def package(tmp_path) -> Path:
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT], tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run([ROOT / "conf" / "debian" / "build.sh", wheel, tmp_path / "made"], tmp_path)
    (made,) = (tmp_path / "made").glob("*.deb")
    return made


def test_it_serves_after_the_installation_and_a_purge_leaves_the_images(package, machine, tmp_path):
    before = machine.files()
    shutil.copy(package, machine.folder / "root/backup-scp.deb")
    (machine.folder / "srv/drive").mkdir()
    encode(dx()).write(machine.folder / "srv/drive/image.dcm")

    # One command installs it, and the node serves, in its sandbox and as a user without rights.
    machine.says("dpkg", "--install", "/root/backup-scp.deb", exit_code=0)
    assert machine.says("systemctl", "is-active", _UNIT) == "active"
    assert machine.says("systemctl", "is-enabled", _UNIT) == "enabled"
    assert "port 11112" in machine.property_of_the_unit("StatusText")
    process = machine.property_of_the_unit("MainPID")
    assert machine.says("stat", "--format=%U", f"/proc/{process}") == "backup-scp"
    machine.says("backup-scp", "echo", "BACKUP_SCP@127.0.0.1:11112", exit_code=0)
    machine.says("backup-scp", "import", "/srv/drive", exit_code=0)
    assert "1 image" in machine.says("backup-scp", "verify", exit_code=0)
    modes = machine.says("stat", "--format=%U:%G %a %n", "/etc/backup-scp/backup-scp.toml", "/var/lib/backup-scp")
    assert modes == "root:backup-scp 640 /etc/backup-scp/backup-scp.toml\nbackup-scp:backup-scp 700 /var/lib/backup-scp"

    # A node that hangs is started again.
    drop_in = machine.folder / "etc/systemd/system/backup-scp.service.d/soon.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(_HANGS_SOON)
    machine.says("systemctl", "daemon-reload", exit_code=0)
    machine.says("systemctl", "restart", _UNIT, exit_code=0)
    machine.says("systemctl", "kill", "--signal=STOP", "--kill-whom=main", _UNIT, exit_code=0)
    wait_until(lambda: machine.property_of_the_unit("NRestarts") == "1", 60, what="the watchdog starting it again")
    wait_until(lambda: machine.says("systemctl", "is-active", _UNIT) == "active", 60)
    machine.says("backup-scp", "echo", "BACKUP_SCP@127.0.0.1:11112", exit_code=0)
    shutil.rmtree(drop_in.parent)

    # A new version keeps the settings, and starts.
    settings = machine.folder / "etc/backup-scp/backup-scp.toml"
    settings.write_text(settings.read_text() + "# ours\n")
    process = machine.property_of_the_unit("MainPID")
    machine.says("dpkg", "--install", "/root/backup-scp.deb", exit_code=0)
    assert settings.read_text().endswith("# ours\n")
    assert machine.property_of_the_unit("MainPID") not in {process, "0"}

    # A purge takes everything but the images, and says so.
    said = machine.says("dpkg", "--purge", "backup-scp", exit_code=0)
    assert "the images in /var/lib/backup-scp are kept" in said
    assert list((machine.folder / "var/lib/backup-scp/archive").rglob("*.dcm"))
    assert "backup-scp" in (machine.folder / "etc/passwd").read_text()
    left = {path for path in machine.files() - before if not path.startswith("var/lib/backup-scp")}
    assert not left

    # Without images the user goes as well.
    shutil.rmtree(machine.folder / "var/lib/backup-scp")
    machine.says("dpkg", "--install", "/root/backup-scp.deb", exit_code=0)
    machine.says("systemctl", "stop", _UNIT, exit_code=0)
    shutil.rmtree(machine.folder / "var/lib/backup-scp")
    machine.says("dpkg", "--purge", "backup-scp", exit_code=0)
    assert "backup-scp" not in (machine.folder / "etc/passwd").read_text()
