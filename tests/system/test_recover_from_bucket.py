"""An empty computer becomes a working node from a sealed copy in a bucket, also after a virus had the credential."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.copies.cloud.sealing import make_keys
from tests.ceph import REGION, ceph_gateway
from tests.processes import wait_until
from tests.system.node import Node
from tests.system.test_recover import SAMPLES, Clinic, files, recover

PAIR = make_keys()


@pytest.fixture(scope="module")
def gateway():
    with ceph_gateway() as running:
        yield running


class CloudClinic(Clinic):
    """A clinic with a node and a bucket."""

    def __init__(self, folder, make_node, gateway) -> None:
        self.gateway, self.bucket, self.make_node = gateway, gateway.make_bucket(lock_days=30), make_node
        self.secret = folder / "secret"
        self.secret.write_text(gateway.node_secret)
        place = {
            "name": "cloud",
            "url": f"s3://{self.bucket}/x-rays",
            "endpoint": gateway.endpoint,
            "region": REGION,
            "access_key": gateway.node_key,
            "secret_key_file": str(self.secret),
            "encrypt": [PAIR.public_key],
        }
        self.node = make_node(copies=[place], ae_title="CLINIC")
        self.node.start()

    def copy(self, samples) -> None:
        assert not any(answer.status for answer in self.node.send(samples))
        wait_until(self._is_complete, timeout_s=120, what="the bucket has everything")
        wait_until(lambda: self.names("contents"), timeout_s=60, what="the bucket can stand alone")

    def names(self, kind: str) -> list[str]:
        listed = self.gateway.owner().list_objects_v2(Bucket=self.bucket, Prefix=f"x-rays/{kind}")
        return [each["Key"] for each in listed.get("Contents", [])]

    def options(self) -> list[str]:
        """What a person types besides the URL."""
        secret = ("--secret-key-file", str(self.secret), "--access-key", self.gateway.node_key)
        return ["--endpoint", self.gateway.endpoint, "--region", REGION, *secret, "--key", PAIR.recovery_key.lower()]


@pytest.fixture
def clinic(tmp_path, make_node, gateway):
    return CloudClinic(tmp_path, make_node, gateway)


def recovered(clinic: CloudClinic, *more: str) -> Node:
    node = clinic.make_node(ae_title="CLINIC")
    said = recover(node, f"s3://{clinic.bucket}/x-rays", *clinic.options(), *more)
    assert f"The archive is whole again: {len(SAMPLES)} images" in said
    return node


def test_everything_is_back_from_a_sealed_bucket(clinic):
    clinic.copy(SAMPLES)
    before = clinic.lose()
    node = recovered(clinic)
    assert files(node) == before


def test_everything_is_back_as_of_the_moment_before_a_virus(clinic):
    clinic.copy(SAMPLES)
    before = clinic.lose()
    owner = clinic.gateway.owner()
    names = clinic.names("")
    newest = max(each["LastModified"] for each in owner.list_objects_v2(Bucket=clinic.bucket)["Contents"])
    wait_until(lambda: datetime.now(UTC) > newest + timedelta(seconds=2), what="a later second")
    for number, name in enumerate(names):
        if number % 2:
            owner.put_object(Bucket=clinic.bucket, Key=name, Body=b"ransom")
        else:
            owner.delete_object(Bucket=clinic.bucket, Key=name)
    moment = (newest + timedelta(seconds=1)).astimezone()
    node = recovered(clinic, "--as-of", f"{moment:%Y-%m-%dT%H:%M:%S}")
    assert files(node) == before
