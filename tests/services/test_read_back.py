"""A stored file, read back as the version that the index has."""

from __future__ import annotations

import pytest

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import DigestMismatch, FileMissing
from backup_scp.services.read_back import version_of
from tests.samples import dx, encode, unparsable
from tests.stored import arrival


@pytest.mark.parametrize("sample", [encode(dx()), unparsable()], ids=["image", "unparsable"])
@pytest.mark.parametrize("verify", [True, False])
def test_it_is_what_came_in(stored, sample, verify):
    accepted = stored.put(sample, 7, site="Clinic Łódź", address="192.0.2.7")
    version = version_of(stored.archive, accepted.location, verify=verify)
    assert version.arrival == arrival(7, site="Clinic Łódź", address="192.0.2.7")
    assert version.instance.sop_instance_uid == sample.sop_instance_uid
    assert (version.sha256, version.size_bytes) == (sample.sha256, len(sample.data_set))
    assert version.location == accepted.location
    assert isinstance(version.instance, SOPInstance)


def test_the_data_set_is_checked_when_asked(stored):
    location = stored.put(encode(dx())).location
    stored.flip(location)
    version_of(stored.archive, location, verify=False)
    with pytest.raises(DigestMismatch):
        version_of(stored.archive, location, verify=True)


def test_a_file_that_is_gone(stored):
    location = stored.put(encode(dx())).location
    stored.path(location).unlink()
    with pytest.raises(FileMissing):
        version_of(stored.archive, location, verify=False)
