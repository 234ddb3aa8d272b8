"""`drill` with real peers: beside a running node, into a console of dcmtk, and from a bucket of S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backup_scp.copies.cloud.sealing import make_keys
from tests.ceph import REGION, Gateway, ceph_gateway
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode


@pytest.fixture(scope="module")
def gateway():
    with ceph_gateway() as running:
        yield running


def test_beside_a_running_node_and_into_a_console(start_node, storescp, tmp_path):
    drive = tmp_path / "media" / "x-rays"
    drive.parent.mkdir()
    node = start_node(
        remotes=[storescp.remote],
        settings={"[copy]": {"name": "drive", "url": f"file://{drive}"}},
    )
    samples = [*map(encode, ct_series(4)), encode(dx())]
    node.send(samples)
    node.cli("copies", "init", "drive", "--same-disk")
    wait_until(lambda: [(state["held"], state["due"]) for state in node.json("copies")] == [(5, 0)])
    (found,) = node.json("drill", "drive", "--all", "--to", "sink")["drills"]
    assert (found["passed"], found["came_back"], found["sent_to"]) == (True, 5, "sink")
    assert storescp.data_sets() == sorted(sample.data_set for sample in samples)
    storescp.stop()
    failed = node.json("drill", "drive", "--sample", "2", "--to", "sink", exit_code=1)["drills"][0]
    assert {problem["kind"] for problem in failed["problems"]} == {"not sent back"}
    assert "no remote AE" in node.cli("drill", "--to", "nobody", exit_code=1).stderr
    assert list((node.home / "drills").glob("backup-scp-drill-*/")) == []


def s3(gateway: Gateway, bucket: str, secret: Path) -> dict[str, Any]:
    secret.write_text(gateway.node_secret)
    place: dict[str, Any] = {"name": "cloud", "url": f"s3://{bucket}/x", "endpoint": gateway.endpoint, "region": REGION}
    return place | {"access_key": gateway.node_key, "secret_key_file": str(secret)}


def keys_of(gateway: Gateway, bucket: str) -> list[str]:
    listed = gateway.owner().list_objects_v2(Bucket=bucket, Prefix="x/images/")["Contents"]
    return sorted(one["Key"] for one in listed)


def kinds(found) -> list[str]:
    return sorted(problem["kind"] for drill in found["drills"] for problem in drill["problems"])


def test_a_bucket_that_keeps_versions_tells_names_that_were_deleted_or_overwritten(make_node, gateway, tmp_path):
    bucket = gateway.make_bucket(lock_days=1)
    node = make_node(settings={"[copy]": s3(gateway, bucket, tmp_path / "secret") | {"lock_days": 1}})
    node.start()
    node.send(list(map(encode, ct_series(3))))
    node.cli("copies", "sync")
    wait_until(lambda: [state["due"] for state in node.json("copies")] == [0])
    assert kinds(node.json("drill", "--all")) == []
    deleted, overwritten, _ = keys_of(gateway, bucket)
    gateway.owner().delete_object(Bucket=bucket, Key=deleted)
    gateway.owner().put_object(Bucket=bucket, Key=overwritten, Body=b"encrypted")
    found = node.json("drill", "--all", exit_code=1)
    assert kinds(found) == ["deleted name", "deleted name"]
    assert found["drills"][0]["came_back"] == 3
    sentences = {problem["sentence"] for problem in found["drills"][0]["problems"]}
    assert sentences == {f"its bytes are intact, and its name was {what}" for what in ("deleted", "overwritten")}


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_bucket_without_versions_tells_what_is_in_the_place_of_an_image(make_node, gateway, tmp_path, is_sealed):
    bucket, pair = gateway.make_bucket(may_delete=True), make_keys()
    key = tmp_path / "key"
    key.write_text(pair.recovery_key)
    sealed: dict[str, Any] = {"encrypt": [pair.public_key]} if is_sealed else {}
    node = make_node(settings={"[copy]": s3(gateway, bucket, tmp_path / "secret") | sealed})
    node.start()
    node.send([*map(encode, ct_series(2)), encode(dx()), encode(dx(StudyDescription="later"))])
    node.cli("copies", "sync")
    wait_until(lambda: [state["due"] for state in node.json("copies")] == [0])
    with_key = ["--key", str(key)] if is_sealed else []
    (found,) = node.json("drill", "--all", *with_key)["drills"]
    assert (found["passed"], found["came_back"], found["unproven"]) == (True, 4, [])
    owner, names = gateway.owner(), keys_of(gateway, bucket)
    content = {name: owner.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}
    later = [name for name in names if b"later" in content[name]]
    first, second = ([name for name in names if name not in later] * 2)[:2]
    owner.put_object(Bucket=bucket, Key=first, Body=content[second])
    owner.delete_object(Bucket=bucket, Key=second)
    expected = ["damaged", "missing"] if is_sealed else ["missing", "swapped"]
    if later:  # its earlier version has the same SOP Instance UID
        uid = encode(dx()).sop_instance_uid.encode()
        (old,) = [name for name in names if uid in content[name] and name not in later]
        owner.put_object(Bucket=bucket, Key=first, Body=content[first])
        owner.put_object(Bucket=bucket, Key=later[0], Body=content[old])
        expected = sorted(["missing", "old version"])
    assert kinds(node.json("drill", "--all", *with_key, exit_code=1)) == expected
