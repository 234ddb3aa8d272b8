"""The settings of cloud storage, as places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backup_scp.errors import InvalidSettings
from backup_scp.node.copy_places import open_place
from backup_scp.node.settings import CopySettings, Settings


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "secret").write_text("the-secret\nmore\n")

    no_index: Any = None

    def opened(url, **more) -> Any:
        return open_place(Settings(home=tmp_path), CopySettings(name="cloud", url=url, **more), no_index)

    return opened


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("s3://bucket", "backup-scp"),
        ("s3://bucket/", "backup-scp"),
        ("s3://bucket/x-rays", "x-rays"),
        ("s3://bucket/clinic one/x-rays/", "clinic one/x-rays"),
    ],
)
def test_a_bucket(opened, tmp_path, url, folder):
    place = opened(
        url, endpoint="https://host/", region="eu", access_key="AK", secret_key_file="secret", ca="ca.pem", lock_days=9
    )
    access = place._store._access
    assert (access.bucket, access.prefix, access.endpoint) == ("bucket", folder, "https://host")
    assert (access.access_key, access.secret_key, access.region) == ("AK", "the-secret", "eu")
    assert access.ca == str(tmp_path / "ca.pem")
    assert (place.name, place.is_off_site, place.medium, place.label) == ("cloud", True, "", "")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("rclone:drive:", "drive:backup-scp"),
        ("rclone:drive:x-rays/clinic", "drive:x-rays/clinic"),
        ("rclone:nas:/volume1/x-rays", "nas:/volume1/x-rays"),
    ],
)
def test_a_remote_of_rclone(opened, tmp_path, url, place):
    store = opened(url, rclone_config="rclone.conf")._store
    assert store.place == place
    assert store._process._config == Path(tmp_path / "rclone.conf")


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("s3://bucket/a//b", {}, "url: each folder"),
        ("s3://bucket/../b", {}, "url: each folder"),
        ("s3://bucket", {"access_key": "AK"}, "belong together"),
        ("s3://bucket", {"access_key": "AK", "secret_key_file": "none"}, "secret_key_file: none cannot be read"),
        ("s3://bucket", {"encrypt": ("age1x",)}, "copy.. cloud, encrypt: age1x is no public key"),
        ("rclone:drive:x", {"lock_days": 1}, "only a bucket of S3"),
        ("rclone:sftp,host=nas,pass=the-secret:x", {}, "logins and options of it stay there"),
    ],
)
def test_what_cannot_work_is_told(opened, url, more, said):
    with pytest.raises(InvalidSettings, match=said) as told:
        opened(url, **more)
    assert "the-secret" not in str(told.value)
