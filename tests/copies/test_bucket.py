"""A bucket of S3 with Object Lock as a copy: a real Ceph RADOS Gateway, and a credential that may not delete."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re

import pytest

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.object_store import ObjectStore
from backup_scp.copies.cloud.sealing import RecoveryKeys, make_keys
from backup_scp.errors import DestinationRefuses, DestinationUnavailable, DigestMismatch, FileMissing
from backup_scp.ports import StoredCopy
from tests.copies.clouds import (
    PAIR,
    Originals,
    SnapshotOfFile,
    bucket_copy,
    empty_folder,
    fetched,
    node_access,
    put_all,
)
from tests.copies.contract import StandAloneContract

pytestmark = pytest.mark.system

DAYS = 30


@pytest.fixture
def originals(tmp_path):
    return Originals(tmp_path / "archive")


@pytest.fixture(scope="module")
def locked(gateway):
    return gateway.make_bucket(lock_days=DAYS)


@pytest.fixture
def bucket(gateway):
    return gateway.make_bucket(lock_days=DAYS)


@pytest.fixture(params=[True, False], ids=["sealed", "plain"])
def copy(request, gateway, bucket, tmp_path):
    with bucket_copy(gateway, bucket, tmp_path / "work", is_sealed=request.param, lock_days=DAYS) as copy:
        yield copy


def objects(gateway, bucket, folder=""):
    """Names and bytes, as the owner sees them."""
    owner = gateway.owner()
    listed = owner.list_objects_v2(Bucket=bucket, Prefix=f"backup-scp/{folder}").get("Contents", [])
    return {each["Key"]: owner.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed}


def versions(gateway, bucket, folder="images/"):
    listed = gateway.owner().list_object_versions(Bucket=bucket, Prefix=f"backup-scp/{folder}")
    return [(each["Key"], each["VersionId"]) for each in listed.get("Versions", [])]


def test_every_image_comes_back_byte_for_byte(copy, originals):
    for item in put_all(copy, originals):
        assert fetched(copy, item) == originals.file(item)


def test_no_temporary_file_is_left_behind(gateway, bucket, originals, tmp_path):
    with bucket_copy(gateway, bucket, tmp_path / "work") as copy:
        assert [fetched(copy, item) for item in put_all(copy, originals)]
    assert empty_folder(tmp_path / "work")


def test_each_object_is_locked_and_has_a_version(gateway, bucket, copy, originals):
    for item in put_all(copy, originals):
        key = f"backup-scp/{item.stored.name}"
        head = gateway.owner().head_object(Bucket=bucket, Key=key)
        assert head["VersionId"] == item.stored.object_version
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert (head["ObjectLockRetainUntilDate"] - head["LastModified"]).days >= DAYS - 1


def test_names_and_sealed_bytes_tell_nothing_of_a_patient(gateway, bucket, originals, tmp_path):
    with bucket_copy(gateway, bucket, tmp_path / "work") as copy:
        put_all(copy, originals)
        copy.conclude(SnapshotOfFile(), is_complete=True)
    held = originals.items[0].held
    for name, content in objects(gateway, bucket).items():
        assert re.fullmatch(r"backup-scp/[a-zA-Z0-9/.-]+", name)
        for secret in (b"PID1", b"Family", held.sop_instance_uid.encode(), held.study_instance_uid.encode()):
            assert secret not in content
            assert secret.decode() not in name


def test_what_is_there_is_not_written_again(gateway, bucket, copy, originals):
    first = put_all(copy, originals)
    assert put_all(copy, originals, first) == first
    assert put_all(copy, originals) == first  # our records are lost: found by its name
    assert len(versions(gateway, bucket)) == len(first)


def test_another_process_finds_it_too(gateway, bucket, originals, tmp_path):
    for _ in range(2):
        with bucket_copy(gateway, bucket, tmp_path / "work", lock_days=DAYS) as copy:
            stored = put_all(copy, originals)
    assert len(versions(gateway, bucket)) == len(stored)


def test_a_damaged_original_never_leaves(gateway, bucket, copy, originals):
    path = originals.archive.read(originals.items[1].held.location).path
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    by_number = {result.number: result for result in copy.put(originals.items, originals.read)}
    assert by_number[2].is_lost
    assert by_number[2].stored is None
    assert "damaged in the archive" in by_number[2].error
    assert by_number[1].stored
    assert by_number[3].stored
    assert len(versions(gateway, bucket)) == 2


def test_a_large_object_goes_in_parts_and_comes_back(gateway, bucket, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 50_000)
    with ObjectStore(node_access(gateway, bucket)) as store:
        version = store.put("images/large", file)
        assert version
        into = io.BytesIO()
        found = store.get("images/large", version, into)
        assert into.getvalue() == file.read_bytes()
        assert store.digest("images/large", version) == found
        state = store.head("images/large")
    assert state
    assert (state.size_bytes, state.object_version, state.lock) == (12_800_000, version, "COMPLIANCE")


def test_an_empty_object_comes_back(gateway, locked, tmp_path):
    (tmp_path / "empty").touch()
    with ObjectStore(node_access(gateway, locked)) as store:
        version = store.put("images/empty", tmp_path / "empty")
        assert store.digest("images/empty", version) == hashlib.sha256().hexdigest()


class TestContract(StandAloneContract):
    """In a bucket without versions: what keeps them cannot be damaged by name."""

    is_sealed = True

    @pytest.fixture(params=[True, False], ids=["sealed", "plain"])
    def open_place(self, request, gateway, tmp_path):
        self.gateway, self.bucket = gateway, gateway.make_bucket()
        return lambda: bucket_copy(gateway, self.bucket, tmp_path / "work", is_sealed=request.param)

    def flip(self, stored_name):
        (content,) = objects(self.gateway, self.bucket, stored_name).values()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        self.gateway.owner().put_object(Bucket=self.bucket, Key=f"backup-scp/{stored_name}", Body=changed)

    def remove(self, stored_name):
        self.gateway.owner().delete_object(Bucket=self.bucket, Key=f"backup-scp/{stored_name}")

    def names(self, place):
        return sorted(objects(self.gateway, self.bucket))


class TestNames:
    """A lock keeps bytes, not names."""

    def test_an_overwritten_name_is_an_alarm_and_no_loss(self, gateway, bucket, copy, originals, caplog):
        stored = put_all(copy, originals)
        client = gateway.node()
        client.put_object(Bucket=bucket, Key=f"backup-scp/{stored[0].stored.name}", Body=b"ransom")
        assert all(result.stored for result in copy.compare(stored))
        assert len(copy.alarms) == 1
        assert "1 name overwritten" in copy.alarms[0]
        assert "names were overwritten by somebody" in copy.noticed()
        assert copy.noticed() == ""
        assert "overwritten" in caplog.text
        assert fetched(copy, stored[0]) == originals.file(stored[0])

    def test_a_deleted_name_is_an_alarm_and_no_loss(self, gateway, bucket, copy, originals):
        stored = put_all(copy, originals)
        for item in stored:
            gateway.owner().delete_object(Bucket=bucket, Key=f"backup-scp/{item.stored.name}")
        assert objects(gateway, bucket, "images/") == {}
        assert all(result.stored for result in copy.compare(stored))
        assert "3 names deleted" in copy.alarms[0]
        assert [fetched(copy, item) for item in stored] == [originals.file(item) for item in stored]

    def test_a_version_that_is_gone_is_a_loss(self, gateway, originals, tmp_path):
        bucket = gateway.make_bucket()
        gateway.owner().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        with bucket_copy(gateway, bucket, tmp_path / "work") as copy:
            stored = put_all(copy, originals)
            gone = stored[1].stored
            gateway.owner().delete_object(Bucket=bucket, Key=f"backup-scp/{gone.name}", VersionId=gone.object_version)
            results = {result.number: result for result in copy.compare(stored)}
            assert results[2].stored is None
            assert "is not in s3://" in results[2].error
            with pytest.raises(FileMissing):
                fetched(copy, stored[1])
            again = put_all(copy, originals, stored)
            assert fetched(copy, again[1]) == originals.file(again[1])
            assert [again[0], again[2]] == [stored[0], stored[2]]


class TestUnlocked:
    def test_a_bucket_without_its_rule_is_told_at_the_first_object(self, gateway, bucket, copy, originals):
        gateway.set_lock_rule(bucket, 0)
        with pytest.raises(DestinationUnavailable, match="does not lock objects for 30 days"):
            list(copy.put(originals.items, originals.read))

    def test_a_shorter_lock_is_none(self, gateway, bucket, copy, originals):
        gateway.set_lock_rule(bucket, DAYS - 1)
        with pytest.raises(DestinationUnavailable, match="does not lock"):
            list(copy.put(originals.items, originals.read))

    def test_no_image_stays_there_unlocked_however_often_it_is_tried(self, gateway, bucket, originals, tmp_path):
        gateway.set_lock_rule(bucket, 0)
        copy = bucket_copy(gateway, bucket, tmp_path / "work", lock_days=DAYS)
        for _ in range(3):
            with copy, pytest.raises(DestinationUnavailable, match="does not lock"):
                list(copy.put(originals.items, originals.read))
        assert versions(gateway, bucket) == []
        gateway.set_lock_rule(bucket, DAYS)
        with copy:
            put_all(copy, originals, originals.items[:1])
        gateway.set_lock_rule(bucket, 0)
        for _ in range(3):
            with copy, pytest.raises(DestinationUnavailable, match="does not lock"):
                list(copy.put(originals.items[1:], originals.read))
        assert len(versions(gateway, bucket)) <= len(originals.items), "once each at most"

    def test_objects_from_that_time_are_stored_again_with_a_lock(self, gateway, bucket, copy, originals, tmp_path):
        gateway.set_lock_rule(bucket, 0)
        with bucket_copy(gateway, bucket, tmp_path / "unlocked") as unlocked:
            put_all(unlocked, originals)
        gateway.set_lock_rule(bucket, DAYS)
        for item in put_all(copy, originals):
            head = gateway.owner().head_object(Bucket=bucket, Key=f"backup-scp/{item.stored.name}")
            assert head["ObjectLockMode"] == "COMPLIANCE"
            assert fetched(copy, item) == originals.file(item)


class TestWithoutVersions:
    """A bucket as people have it: no lock, no versions."""

    def test_damage_there_is_noticed_and_not_overwritten(self, gateway, originals, tmp_path):
        bucket = gateway.make_bucket()
        with bucket_copy(gateway, bucket, tmp_path / "work", is_sealed=False) as copy:
            stored = put_all(copy, originals)
            assert stored[0].stored.object_version == ""
            key = f"backup-scp/{stored[0].stored.name}"
            gateway.owner().put_object(Bucket=bucket, Key=key, Body=b"damaged")
            results = {result.number: result for result in copy.compare(stored)}
            assert [bool(results[number].stored) for number in (1, 2, 3)] == [False, True, True]
            with pytest.raises(DigestMismatch):
                fetched(copy, stored[0])
            again = put_all(copy, originals, stored)
            assert again[0].stored.name != stored[0].stored.name
            assert fetched(copy, again[0]) == originals.file(again[0])
        assert objects(gateway, bucket)[key] == b"damaged"


class Corrupting(ObjectStore):
    """Changes the last byte of every second image on its way; the service confirms all of them."""

    count = 0

    def put(self, name, file):
        self.count += name.startswith("images/")
        if self.count % 2 and name.startswith("images/"):
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return super().put(name, file)


def test_what_was_changed_on_its_way_is_not_confirmed(gateway, bucket, originals, tmp_path):
    store = Corrupting(node_access(gateway, bucket))
    with bucket_copy(gateway, bucket, tmp_path / "work", store=store, lock_days=DAYS) as copy:
        results = list(copy.put(originals.items, originals.read))
    failed = [result for result in results if result.stored is None]
    assert failed
    assert len(failed) < len(results)
    assert all("came back changed" in result.error and not result.is_lost for result in failed)
    with bucket_copy(gateway, bucket, tmp_path / "work", lock_days=DAYS) as copy:
        for item in put_all(copy, originals):
            assert fetched(copy, item) == originals.file(item)


class Refusing(ObjectStore):
    """Refuses some images, as a proxy before the service does that limits the size of a request."""

    refused = ""

    def put(self, name, file):
        if name.startswith("images/") and self.refused in name:
            raise DestinationRefuses(f"{self.place} refuses the request (status 413)")
        return super().put(name, file)


class TestRefused:
    """Others do not wait for an image that the service refuses; a service that refuses all is told of."""

    @pytest.fixture
    def many(self, tmp_path):
        return Originals(tmp_path / "many", 20)

    @pytest.fixture
    def refusing(self, gateway, bucket, tmp_path):
        self.store = Refusing(node_access(gateway, bucket))
        return bucket_copy(gateway, bucket, tmp_path / "work", store=self.store, lock_days=DAYS)

    def test_one_image_that_is_refused_stops_no_other(self, refusing, many):
        self.store.refused = cloud_names.data_set_digits(many.items[0].held)
        with refusing:
            results = {result.number: result for result in refusing.put(many.items, many.read)}
        assert "status 413" in results.pop(1).error
        assert len(results) == 19
        assert all(result.stored for result in results.values())

    def test_a_service_that_refuses_all_is_told_and_each_try_reaches_others(self, refusing, many):
        tried: list[int] = []

        def put_rest():
            left = [item for item in many.items if item.number not in tried]
            tried.extend(result.number for result in refusing.put(left, many.read))

        for _ in range(2):
            with refusing, pytest.raises(DestinationRefuses, match="status 413"):
                put_rest()
        assert 6 <= len(tried) < 20

    def test_nothing_counts_as_refused_when_the_service_is_away(self, gateway, refusing, many, monkeypatch):
        def away(_folder):
            raise DestinationUnavailable("It does not answer")

        with refusing:
            monkeypatch.setattr(self.store, "list", away)
            with pytest.raises(DestinationUnavailable, match="does not answer"):
                next(refusing.put(many.items[:1], many.read))


class TestSealed:
    def test_age_itself_opens_an_object(self, gateway, bucket, originals, tmp_path):
        with bucket_copy(gateway, bucket, tmp_path / "work") as copy:
            stored = put_all(copy, originals)
        sealed = objects(gateway, bucket)[f"backup-scp/{stored[0].stored.name}"]
        opened = io.BytesIO()
        RecoveryKeys(PAIR.recovery_key).open(io.BytesIO(sealed), opened)
        assert opened.getvalue() == originals.file(stored[0])

    def test_without_a_key_the_envelope_is_named(self, gateway, bucket, originals, tmp_path):
        with bucket_copy(gateway, bucket, tmp_path / "work", recovery_keys=None) as copy:
            (item, *_) = put_all(copy, originals)
            with pytest.raises(DigestMismatch, match="envelope"):
                fetched(copy, item)

    def test_another_key_is_told(self, gateway, bucket, originals, tmp_path):
        other = RecoveryKeys(make_keys().recovery_key)
        with bucket_copy(gateway, bucket, tmp_path / "work", recovery_keys=other) as copy:
            (item, *_) = put_all(copy, originals)
            with pytest.raises(DigestMismatch, match="another key"):
                fetched(copy, item)

    def test_what_left_unsealed_before_is_stored_again(self, gateway, bucket, originals, tmp_path):
        for is_sealed in (False, True):
            with bucket_copy(gateway, bucket, tmp_path / "work", is_sealed=is_sealed) as copy:
                stored = put_all(copy, originals)
        assert all(item.stored.name.endswith(".age") for item in stored)


class TestStandsAlone:
    def test_the_manifests_teach_the_copy_again(self, copy, originals):
        first = put_all(copy, originals, originals.items[:2])
        second = put_all(copy, originals, originals.items[2:])
        copy.conclude(SnapshotOfFile(), is_complete=True)
        learnt = {image.location: image for image in copy.listed()}
        assert len(learnt) == 3
        for item in first + second:
            image = learnt[item.held.location]
            assert (image.sha256, image.size_bytes) == (item.held.sha256, item.held.size_bytes)
            assert fetched(copy, item._replace(stored=image.stored)) == originals.file(item)

    def test_index_and_settings_go_once_a_day(self, gateway, bucket, copy, originals, monkeypatch):
        from datetime import timedelta

        from backup_scp.machine import clock

        snapshot = SnapshotOfFile()
        put_all(copy, originals, originals.items[:1])
        copy.conclude(snapshot, is_complete=False)
        put_all(copy, originals, originals.items[1:2])
        copy.conclude(snapshot, is_complete=True)
        assert snapshot.taken == 1
        now = clock.now()
        monkeypatch.setattr(clock, "source", lambda: now + timedelta(days=1, minutes=1))
        put_all(copy, originals, originals.items[2:])
        copy.conclude(snapshot, is_complete=True)
        copy.conclude(snapshot, is_complete=True)
        assert snapshot.taken == 2
        folders = [name.split("/")[1] for name in objects(gateway, bucket)]
        assert folders.count("index") == folders.count("settings") == 2

    def test_the_index_comes_back(self, gateway, bucket, copy, originals):
        snapshot = SnapshotOfFile()
        put_all(copy, originals)
        copy.conclude(snapshot, is_complete=True)
        ((name, content),) = objects(gateway, bucket, "index/").items()
        if name.endswith(".age"):
            opened = io.BytesIO()
            RecoveryKeys(PAIR.recovery_key).open(io.BytesIO(content), opened)
            content = opened.getvalue()
        assert gzip.decompress(content) == snapshot.content
        (readme,) = objects(gateway, bucket, "README").values()
        assert b"age --decrypt" in readme

    def test_a_name_from_the_future_does_not_stop_the_snapshots(self, gateway, bucket, copy, originals):
        key = f"backup-scp/index/2199-01-01T000000Z-{'0' * 64}.sqlite.gz.age"
        gateway.owner().put_object(Bucket=bucket, Key=key, Body=b"")
        put_all(copy, originals)
        snapshot = SnapshotOfFile()
        copy.conclude(snapshot, is_complete=True)
        assert snapshot.taken == 1


class TestRefusals:
    def test_a_wrong_key_is_told(self, gateway, locked, originals, tmp_path):
        store = ObjectStore(node_access(gateway, locked, secret_key="wrong-secret"))
        copy = bucket_copy(gateway, locked, tmp_path / "work", store=store)
        with copy, pytest.raises(DestinationRefuses, match="credential") as told:
            list(copy.put(originals.items, originals.read))
        assert "wrong-secret" not in str(told.value)
        assert "wrong-secret" not in repr(node_access(gateway, locked, secret_key="wrong-secret"))

    def test_a_bucket_that_is_not_there_is_told(self, gateway, originals, tmp_path):
        with (
            bucket_copy(gateway, "no-such-bucket", tmp_path / "work") as copy,
            pytest.raises(DestinationRefuses, match="no bucket s3://no-such-bucket"),
        ):
            list(copy.put(originals.items, originals.read))

    def test_a_service_that_is_not_there_is_told(self, gateway, locked, tmp_path):
        (tmp_path / "file").write_bytes(b"a")
        access = node_access(gateway, locked, endpoint="http://127.0.0.1:1")
        with ObjectStore(access) as store:
            for ask in (lambda: store.put("images/a", tmp_path / "file"), lambda: store.head("images/a")):
                with pytest.raises(DestinationUnavailable, match="does not answer"):
                    ask()


def test_foreign_names_in_our_folder_are_left_alone(gateway, bucket, copy, originals):
    folder = cloud_names.day_folder(originals.items[0].held)
    for name in (f"{folder}/hello.txt", f"{folder}/sub/{'0' * 32}-{'0' * 64}.dcm", f"images//{'0' * 10}"):
        gateway.owner().put_object(Bucket=bucket, Key=f"backup-scp/{name}", Body=b"foreign")
    stored = put_all(copy, originals)
    assert put_all(copy, originals) == stored


def test_a_version_of_ours_without_records_is_found_when_its_name_was_overwritten(gateway, bucket, copy, originals):
    stored = put_all(copy, originals)
    client = gateway.node()
    client.put_object(Bucket=bucket, Key=f"backup-scp/{stored[0].stored.name}", Body=b"ransom")
    again = put_all(copy, originals)
    assert [again[1], again[2]] == stored[1:]
    assert fetched(copy, again[0]) == originals.file(again[0])
    assert isinstance(again[0].stored, StoredCopy)
    assert json.dumps(again[0].stored)
