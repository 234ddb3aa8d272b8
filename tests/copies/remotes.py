"""Remotes for rclone that the tests start on loopback: Debian's sshd with internal-sftp, and rclone's WebDAV server."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from backup_scp.copies.cloud.rclone_process import find_rclone
from tests.processes import LOOPBACK, Process, clean_environment, connects, free_port, peer_missing, wait_until

NAME = "place"

_SSHD = """\
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


@dataclass(frozen=True)
class Remote:
    """A remote with the name ``place``: rclone's configuration, and the folder in which its files are."""

    config: Path
    files: Path
    path: str
    server: Process
    port: int

    def file(self, name: str) -> Path:
        return self.files / "backup-scp" / name

    def remove(self, name: str) -> None:
        """Remove a file behind the server's back, and wait until the server notices."""
        self.file(name).unlink()
        if not self.path:
            self.server.signal(signal.SIGHUP)  # it forgets what it knows of folders
            address = f"http://{LOOPBACK}:{self.port}/backup-scp/{name}"
            wait_until(lambda: requests.head(address, timeout=10).status_code == requests.codes.not_found)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=clean_environment(), timeout=60)
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@contextlib.contextmanager
def sftp_remote(folder: Path) -> Iterator[Remote]:
    """Run sshd, which offers nothing but SFTP."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        peer_missing("sshd")
    for key in ("host_key", "user_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    settings = folder / "sshd_config"
    settings.write_text(_SSHD.format(port=port, host=LOOPBACK, folder=folder))
    host_key = (folder / "host_key.pub").read_text().strip()
    (folder / "known_hosts").write_text(f"[{LOOPBACK}]:{port} {host_key}\n")
    config = folder / "rclone.conf"
    config.write_text(
        f"[{NAME}]\ntype = sftp\nhost = {LOOPBACK}\nport = {port}\nuser = {getpass.getuser()}\n"
        f"key_file = {folder}/user_key\nknown_hosts_file = {folder}/known_hosts\nshell_type = none\n"
    )
    process = Process([str(sshd), "-D", "-e", "-f", str(settings)], folder / "sshd.log")
    files = folder / "files"
    files.mkdir()
    with contextlib.closing(process):
        process.launch(lambda: connects(port))
        yield Remote(config, files, str(files), process, port)


@contextlib.contextmanager
def webdav_remote(folder: Path) -> Iterator[Remote]:
    """Run rclone's server of WebDAV, which has no hashes for its clients."""
    port, files = free_port(), folder / "files"
    files.mkdir()
    config = folder / "rclone.conf"
    config.write_text(f"[{NAME}]\ntype = webdav\nurl = http://{LOOPBACK}:{port}\nvendor = other\n")
    # Without a password: the server hashes it for each request, at a cost that a busy machine feels.
    options = ("--addr", f"{LOOPBACK}:{port}", "--local-no-check-updated")
    process = Process([find_rclone(), "serve", "webdav", str(files), *options], folder / "webdav.log")
    with contextlib.closing(process):
        process.launch(lambda: connects(port))
        yield Remote(config, files, "", process, port)
