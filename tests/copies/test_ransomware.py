"""The drill: whoever has the node destroys all that its credential can reach, and every image comes back."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from backup_scp.copies.cloud.rclone_process import find_rclone
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.node.place_at_url import PlaceOptions, place_at
from backup_scp.node.settings import Settings
from backup_scp.ports import Contents
from tests.ceph import REGION
from tests.copies.clouds import PAIR, Originals, SnapshotOfFile, bucket_copy, fetched, put_all
from tests.processes import clean_environment, wait_until

pytestmark = pytest.mark.system


@pytest.fixture(params=[True, False], ids=["may delete", "may not delete"])
def bucket(request, gateway):
    return gateway.make_bucket(lock_days=30, may_delete=request.param)


@pytest.fixture
def attacked(gateway, bucket, tmp_path):
    """Images in the bucket, the moment after that, and then all that the node's credential can do."""
    originals = Originals(tmp_path / "archive", 6)
    before = {item.held: originals.file(item) for item in originals.items}
    with bucket_copy(gateway, bucket, tmp_path / "work", lock_days=30) as copy:
        stored = put_all(copy, originals)
        copy.conclude(SnapshotOfFile(), is_complete=True)
    node = gateway.node()
    newest = max(each["LastModified"] for each in node.list_objects_v2(Bucket=bucket)["Contents"])
    wait_until(lambda: datetime.now(UTC) > newest + timedelta(seconds=2), what="a later second")
    listed = node.list_object_versions(Bucket=bucket)["Versions"]
    for number, each in enumerate(listed):
        if number % 2:
            node.put_object(Bucket=bucket, Key=each["Key"], Body=b"ransom")
        for version in ({}, {"VersionId": each["VersionId"]}):
            with contextlib.suppress(ClientError):
                node.delete_object(Bucket=bucket, Key=each["Key"], **version)
    for item in originals.items:
        path = originals.archive.read(item.held.location).path
        path.chmod(0o600)
        path.write_bytes(b"ransom")
    return before, stored, newest


def test_every_image_comes_back_by_its_version(gateway, bucket, attacked, tmp_path):
    before, stored, _ = attacked
    with bucket_copy(gateway, bucket, tmp_path / "work", lock_days=30) as copy:
        for item in stored:
            assert fetched(copy, item) == before[item.held]
        assert all(result.stored for result in copy.compare(stored))
        assert copy.alarms


def test_every_image_comes_back_by_rclone_alone(gateway, bucket, attacked, tmp_path):
    before, stored, newest = attacked
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[s3]\ntype = s3\nprovider = Ceph\nendpoint = {gateway.endpoint}\nregion = {REGION}\n"
        f"access_key_id = {gateway.node_key}\nsecret_access_key = {gateway.node_secret}\n"
    )
    moment = f"{newest + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}"
    target = tmp_path / "back"
    command = [find_rclone(), "--config", str(config), "copy", "--s3-version-at", moment, f"s3:{bucket}", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(TZ="UTC"))
    assert done.returncode == 0, done.stderr
    for item in stored:
        opened = tmp_path / "opened"
        with (target / "backup-scp" / item.stored.name).open("rb") as source, opened.open("wb") as file:
            RecoveryKeys(PAIR.recovery_key).open(source, file)
        assert opened.read_bytes() == before[item.held]
    assert list((target / "backup-scp" / "manifests").rglob("*.age"))


def test_a_node_can_be_made_from_the_bucket_as_of_the_moment_before(gateway, bucket, attacked, tmp_path):
    before, stored, newest = attacked
    secret = tmp_path / "secret"
    secret.write_text(gateway.node_secret)

    def opened(as_of: datetime):
        options = PlaceOptions(
            recovery_key=PAIR.recovery_key,
            endpoint=gateway.endpoint,
            region=REGION,
            access_key=gateway.node_key,
            secret_key_file=str(secret),
            as_of=as_of,
        )
        return place_at(Settings(home=tmp_path / "new home"), f"s3://{bucket}/backup-scp", options)

    with opened(newest + timedelta(seconds=1)) as place:
        assert place.proves(RecoveryKeys(PAIR.recovery_key))
        assert place.saved_settings() == SnapshotOfFile().settings()
        assert place.fetch_index(tmp_path / "index")
        assert (tmp_path / "index").read_bytes() == SnapshotOfFile().content
        listed = {image.location: image.stored for image in place.listed()}
        assert listed == {item.held.location: item.stored for item in stored}
        for item in stored:
            unknown = item.stored._replace(object_version="")
            for each in (item, item._replace(stored=unknown)):  # by its version, and by its name of that time
                assert fetched(place, each) == before[item.held]
        assert place.alarms == []
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert any(b"rclone" in command for command in commands)
        assert not any(gateway.node_secret.encode() in command for command in commands)
    with opened(newest - timedelta(days=1)) as early:
        assert early.contents() == Contents()
