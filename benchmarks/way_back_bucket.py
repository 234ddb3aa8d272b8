"""A sealed copy in a bucket of Ceph on loopback, and the same files in a crypt remote of rclone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from backup_scp.copies.cloud.rclone_process import find_rclone
from backup_scp.copies.cloud.sealing import make_keys
from benchmarks.nodes import BackupSCP, inherited
from tests.ceph import REGION, ceph_gateway


class SealedBucket:
    """Both, while the block runs.

    Parameters
    ----------
    folder
        For keys and settings.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._keys = make_keys()
        self._key_file, self._secret_file = folder / "recovery.key", folder / "secret"
        self._key_file.write_text(f"{self._keys.recovery_key}\n")
        self._until = ExitStack()
        self._images = 0

    def __enter__(self) -> Self:
        gateway = self._gateway = self._until.enter_context(ceph_gateway())
        self._bucket, self._plain = gateway.make_bucket(), gateway.make_bucket(may_delete=True)
        self._secret_file.write_text(f"{gateway.node_secret}\n")
        self._secret_file.chmod(0o600)
        secret = subprocess.run([find_rclone(), "obscure", "measured"], check=True, capture_output=True, text=True)  # noqa: S603
        (self._folder / "rclone.conf").write_text(
            f"[ceph]\ntype = s3\nprovider = Ceph\nendpoint = {gateway.endpoint}\nregion = {REGION}\n"
            f"access_key_id = {gateway.owner_key}\nsecret_access_key = {gateway.owner_secret}\n\n"
            f"[sealed]\ntype = crypt\nremote = ceph:{self._plain}\npassword = {secret.stdout.strip()}\n"
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._until.close()

    @property
    def source(self) -> tuple[str, ...]:
        """Return the arguments of ``recover``."""
        gateway = self._gateway
        reached = ("--endpoint", gateway.endpoint, "--region", REGION, "--access-key", gateway.node_key)
        return (self._url, *reached, "--secret-key-file", str(self._secret_file), "--key", str(self._key_file))

    @property
    def _url(self) -> str:
        return f"s3://{self._bucket}/x-rays"

    def fill(self, node: BackupSCP, archive: Path) -> None:
        """Fill the bucket by the node, and the crypt remote by rclone."""
        self.copy(node)
        self.rclone_copy(archive)
        self._images = sum(1 for _ in archive.rglob("*.dcm"))

    def copy(self, node: BackupSCP) -> Used:
        """Fill the bucket by ``copies sync``: sealed, read back and compared."""
        gateway = self._gateway
        copy = {
            "name": "cloud",
            "url": self._url,
            "endpoint": gateway.endpoint,
            "region": REGION,
            "access_key": gateway.node_key,
            "secret_key_file": str(self._secret_file),
            "encrypt": [self._keys.public_key],
        }
        return _used(
            [sys.executable, "-m", "backup_scp", "copies", "sync", "cloud"],
            inherited() | node.environment() | {"BACKUP_SCP_COPY": json.dumps([copy])},
        )

    def rclone_copy(self, archive: Path) -> Used:
        """Fill the crypt remote by rclone; it compares nothing that it can open."""
        return self._rclone("copy", str(archive), "sealed:", "--include", "*.dcm")

    def rclone_check(self, archive: Path) -> Used:
        """Compare the crypt remote with the archive by rclone."""
        return self._rclone("cryptcheck", str(archive), "sealed:", "--include", "*.dcm")

    def rclone_back(self, folder: Path) -> float:
        """Copy everything back by rclone; return the seconds."""
        began = time.perf_counter()
        self._rclone("copy", "sealed:", str(folder))
        seconds = time.perf_counter() - began
        if sum(1 for _ in folder.rglob("*.dcm")) != self._images:
            raise SystemExit("rclone did not bring back everything: no figure")
        return seconds

    def _rclone(self, *arguments: str) -> Used:
        return _used([find_rclone(), "--config", str(self._folder / "rclone.conf"), "--quiet", *arguments], os.environ)


class Used(NamedTuple):
    """What a program has used: seconds, and megabytes of memory at most."""

    seconds: float
    peak_mb: float


def _used(argv: list[str], environment: Mapping[str, str]) -> Used:
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[:6]} ended with {process.returncode}: no figure")
    return Used(seconds, usage.ru_maxrss / 1024)
