"""A Ceph RADOS Gateway of the tests' own: a monitor, an object store in memory and an S3 gateway, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import LOOPBACK, Process, clean_environment, connects, free_port, peer_missing, wait_until

REGION = "us-east-1"

_SETTINGS = """\
[global]
fsid = {fsid}
mon host = v2:{host}:{port}/0
ms bind ipv4 = true
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 4294967296
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
run dir = {folder}
keyring = {folder}/keyring
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
[client.rgw]
rgw frontends = beast endpoint={host}:{s3_port}
rgw data = {folder}
rgw dns name = {host}
rgw crypt require ssl = false
"""


@dataclass(frozen=True)
class Gateway:
    """A running gateway and its owner's keys.

    Attributes
    ----------
    node_key, node_secret
        Keys of a user that owns nothing: buckets give it what a node may do.
    """

    endpoint: str
    owner_key: str = "AKowner"
    owner_secret: str = "SKowner123"
    node_key: str = "AKnode"
    node_secret: str = "SKnode123"

    def owner(self) -> Any:
        """Return boto3's client for the bucket's owner."""
        return self.client(self.owner_key, self.owner_secret)

    def client(self, key: str, secret: str) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(retries={"max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=REGION,
            config=config,
        )

    def make_bucket(self, *, lock_days: int = 0, may_delete: bool = False) -> str:
        """Make a bucket in which the node's user may put, get and list, and nothing else; with or without a lock."""
        owner, bucket = self.owner(), f"bucket-{uuid.uuid4().hex[:12]}"
        owner.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=bool(lock_days))
        if lock_days:
            self.set_lock_rule(bucket, lock_days)
        actions = ["PutObject", "GetObject", "GetObjectVersion", "ListBucket", "AbortMultipartUpload"]
        actions += ["ListBucketVersions", *(["DeleteObject"] if may_delete else [])]
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/node"]},
            "Action": [f"s3:{action}" for action in actions],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        whole = {
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/owner"]},
            "Action": ["s3:*"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement, whole]})
        owner.put_bucket_policy(Bucket=bucket, Policy=policy)
        return bucket

    def node(self) -> Any:
        """Return boto3's client with the rights of a node."""
        return self.client(self.node_key, self.node_secret)

    def set_lock_rule(self, bucket: str, days: int) -> None:
        """Set the default retention of a bucket, or remove it."""
        rule: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
        if days:
            rule["Rule"] = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
        self.owner().put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)


def _run(*argv: str, given: str | None = None) -> str:
    done = subprocess.run(
        argv, input=given, capture_output=True, text=True, check=False, env=clean_environment(), timeout=100
    )
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def ceph_gateway() -> Iterator[Gateway]:
    """Yield a gateway; its processes are ended and its files removed afterwards."""
    if not all(map(shutil.which, ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin"))):
        peer_missing("Ceph's RADOS Gateway")
    in_memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="backup-scp-ceph-", dir=in_memory if os.access(in_memory, os.W_OK) else None))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield _start(folder, stack)


def _start(folder: Path, stack: contextlib.ExitStack) -> Gateway:
    port, s3_port, fsid = free_port(), free_port(), str(uuid.uuid4())
    settings = folder / "ceph.conf"
    settings.write_text(_SETTINGS.format(fsid=fsid, host=LOOPBACK, port=port, s3_port=s3_port, folder=folder))
    ours = ["-c", str(settings)]
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:{LOOPBACK}:{port}]", str(folder / "monmap"))
    keyring = str(folder / "keyring")
    _run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "client.rgw"):
        caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        _run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
    _run("ceph-mon", *ours, "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"), "--keyring", keyring)

    def start(*argv: str, until) -> None:
        process = Process([*argv, *ours, "-f"], folder / f"{argv[0]}.out")
        stack.callback(process.kill)
        process.launch(until)

    ceph = ["ceph", *ours, "--connect-timeout", "20"]
    start("ceph-mon", "-i", "a", until=lambda: connects(port))
    osd, secret = str(uuid.uuid4()), _run("ceph-authtool", "--gen-print-key").strip()
    _run(*ceph, "osd", "new", osd, "-i", "-", given=json.dumps({"cephx_secret": secret}))
    _run("ceph-authtool", keyring, "-n", "osd.0", "--add-key", secret)
    _run("ceph-osd", *ours, "-i", "0", "--mkfs", "--osd-uuid", osd)
    _run(*ceph, "osd", "crush", "add", "osd.0", "1.0", "host=localhost", "root=default")
    start("ceph-osd", "-i", "0", until=lambda: True)
    wait_until(lambda: "1 up" in _run(*ceph, "osd", "stat"))
    gateway = Gateway(f"http://{LOOPBACK}:{s3_port}")
    for user, key, secret in (
        ("owner", gateway.owner_key, gateway.owner_secret),
        ("node", gateway.node_key, gateway.node_secret),
    ):
        names = (f"--uid={user}", f"--display-name={user}", f"--access-key={key}", f"--secret={secret}")
        _run("radosgw-admin", *ours, "-n", "client.rgw", "user", "create", *names)
    start("radosgw", "-n", "client.rgw", until=lambda: connects(s3_port))
    return gateway
