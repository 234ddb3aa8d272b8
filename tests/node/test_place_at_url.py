"""The place of a copy, opened by its URL on an empty machine."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest

from backup_scp.copies.cloud.sealing import make_keys
from backup_scp.copies.drive.drive_copy import DriveCopy
from backup_scp.copies.sealed_drive import SealedDriveCopy
from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.node.place_at_url import PlaceOptions, place_at
from backup_scp.node.settings import Settings
from tests.copies.contract import IDENTITY, Snapshots, put, small_archive
from tests.copies.test_drive import prepare
from tests.samples import dx, encode

PAIR = make_keys()


@pytest.fixture
def opened(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def opened(url, **more) -> Any:
        return place_at(Settings(home=tmp_path / "home"), str(url), PlaceOptions(**more))

    return opened


def fill(place, tmp_path, number=0):
    made = small_archive(tmp_path / f"original {number}", [encode(dx(study=str(number)))])
    with place:
        (item,) = put(place, made)
        place.conclude(Snapshots(), is_complete=True)
    return item, made.bytes_of(item)


def plain(folder):
    return DriveCopy("drive", folder, lambda: IDENTITY)


def sealed(folder):
    return SealedDriveCopy("drive", folder, lambda: IDENTITY, folder.parent / "work", [PAIR.public_key])


@pytest.fixture
def stick(tmp_path):
    (tmp_path / "stick").mkdir()
    prepare(tmp_path / "stick" / "X rays")
    return tmp_path / "stick"


@pytest.mark.parametrize("kind", [plain, sealed])
@pytest.mark.parametrize("url", ["{}/X rays", "{}", "file://{}", "file://{}/X%20rays"])
def test_a_drive(opened, stick, tmp_path, kind, url):
    item, content = fill(kind(stick / "X rays"), tmp_path)
    with opened(url.format(stick), recovery_key=PAIR.recovery_key) as place:
        assert (place.label, place.archive) == ("Drive 1", IDENTITY)
        assert place.saved_settings() == Snapshots().settings()
        assert place.contents().images == 6
        (image,) = place.listed()
        into = io.BytesIO()
        place.fetch(item._replace(stored=image.stored), into)
        assert into.getvalue() == content


def test_a_relative_folder(opened, stick, tmp_path):
    fill(plain(stick / "X rays"), tmp_path)
    with opened("stick") as place:
        assert place.contents().images == 6


def test_the_newer_copy_of_a_drive_counts(opened, stick, tmp_path, monkeypatch):
    from datetime import timedelta

    from backup_scp.machine import clock

    folder, began = stick / "X rays", clock.now()
    for number, (kind, expected) in enumerate([(plain, DriveCopy), (sealed, SealedDriveCopy), (plain, DriveCopy)]):
        monkeypatch.setattr(clock, "source", lambda number=number: began + timedelta(days=2 * number))
        fill(kind(folder), tmp_path, number)
        assert type(opened(folder)) is expected


def test_a_drive_that_was_only_prepared(opened, stick):
    with opened(stick) as place:
        assert place.contents().taken_at is None


def test_a_folder_without_a_copy_is_told(opened, tmp_path):
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    with pytest.raises(InvalidSelection, match=r"no copy of an archive.*BACKUP-SCP\.json"):
        opened(tmp_path / "empty")
    with pytest.raises(InvalidSelection, match="cannot be read"):
        opened(tmp_path / "nothing")


def test_copies_of_two_clinics_are_not_guessed(opened, stick):
    prepare(stick / "another", "Drive 2", "f" * 32)
    with pytest.raises(InvalidSelection, match=r"name one of .*X rays"):
        opened(stick)
    with opened(stick / "another") as place:
        assert place.archive == "f" * 32


def test_a_bucket(opened, tmp_path):
    (tmp_path / "secret").write_text("the-secret\n")
    place = opened(
        "s3://bucket/x-rays",
        endpoint="https://host/",
        region="eu",
        access_key="AK",
        secret_key_file="secret",
        ca="ca.pem",
        recovery_key=PAIR.recovery_key,
    )
    access = place._store._access
    assert (access.bucket, access.prefix, access.endpoint, access.region) == ("bucket", "x-rays", "https://host", "eu")
    assert (access.access_key, access.secret_key, access.ca) == ("AK", "the-secret", str(tmp_path / "ca.pem"))
    assert place.recovery_keys.public_keys == [PAIR.public_key]


def test_the_secret_key_of_the_environment(opened, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    access = opened("s3://bucket", endpoint="https://host", access_key="AK")._store._access
    assert (access.access_key, access.secret_key) == ("AK", "another-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK2")
    access = opened("s3://bucket", endpoint="https://host")._store._access
    assert (access.access_key, access.secret_key) == ("AK2", "another-secret")


def test_a_remote_of_rclone(opened, tmp_path):
    store = opened("rclone:nas:/volume1/x-rays", rclone_config="rclone.conf")._store
    assert store.place == "nas:/volume1/x-rays"
    assert store._process._config == tmp_path / "rclone.conf"


@pytest.mark.parametrize(
    ("url", "more", "error", "said"),
    [
        ("s3://bucket/a//b", {}, InvalidSettings, "^url: each folder"),
        ("s3://", {}, InvalidSettings, "^url: write"),
        ("rclone:nas", {}, InvalidSettings, "^url: write"),
        ("s3://bucket", {"endpoint": "https://host"}, InvalidSettings, "needs an access key"),
        ("s3://bucket", {"access_key": "AK"}, InvalidSettings, "AK needs its secret key"),
        ("s3://bucket", {"secret_key_file": "secret"}, InvalidSettings, "needs the access key"),
        ("s3://bucket", {"access_key": "A", "secret_key_file": "none"}, InvalidSettings, "^secret_key_file: .*none"),
        ("s3://bucket", {"recovery_key": "no-such-file"}, InvalidSettings, "recovery key's file no-such-file"),
        ("dicom://AE@host:104", {}, InvalidSelection, "no index"),
        ("dicomweb+https://host/x", {}, InvalidSelection, "no index"),
        (".", {"as_of": datetime(2026, 1, 1, tzinfo=UTC)}, InvalidSelection, "Only a bucket"),
    ],
)
def test_what_cannot_work_is_told(opened, url, more, error, said):
    with pytest.raises(error, match=said):
        opened(url, **more)
