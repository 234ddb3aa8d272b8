"""What a killed process leaves of a large object in a bucket: parts that no list shows, and no object."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backup_scp.copies.cloud.object_store import ObjectStore
from tests.copies.clouds import node_access
from tests.processes import ROOT, clean_environment, wait_until

pytestmark = pytest.mark.system

NAME = "images/large.dcm"
UPLOAD = """
import sys
from pathlib import Path
from backup_scp.copies.cloud.object_store import BucketAccess, ObjectStore
bucket, endpoint, region, access_key, secret_key, file = sys.argv[1:]
with ObjectStore(BucketAccess(bucket, "backup-scp", endpoint, region, access_key, secret_key)) as store:
    store.put("images/large.dcm", Path(file))
"""


def parts_of(owner, bucket) -> list[int]:
    """Return how many parts each unfinished upload has."""
    uploads = owner.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    found = [owner.list_parts(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"]) for each in uploads]
    return [len(each.get("Parts", [])) for each in found]


def test_parts_stay_and_the_next_run_stores_the_whole(gateway, tmp_path):
    """docs/cloud.md asks for a lifecycle rule: the node's credential cannot list the parts."""
    bucket, owner, file = gateway.make_bucket(), gateway.owner(), tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(400 << 20)
    access = node_access(gateway, bucket)
    given = (bucket, access.endpoint, access.region, access.access_key, access.secret_key, str(file))
    with subprocess.Popen(
        [sys.executable, "-c", UPLOAD, *given], env=clean_environment(PYTHONPATH=str(ROOT)), cwd=ROOT
    ) as process:
        wait_until(lambda: any(parts_of(owner, bucket)), what="a part")
        process.kill()
    (left,) = parts_of(owner, bucket)
    assert left > 0
    file.write_bytes(bytes(6 << 20))
    with ObjectStore(access) as store:
        assert list(store.list("images")) == []
        version = store.put(NAME, file)
        found = store.head(NAME)
        assert found is not None
        assert (found.size_bytes, found.object_version) == (6 << 20, version)
    assert parts_of(owner, bucket) == [left]
