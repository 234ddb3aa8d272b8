"""The Inventory of all that is held (PS3.3 A.88), found and retrieved over the web."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime, timedelta

import pydicom
import pytest

from backup_scp.machine import clock
from backup_scp.services.inventory_listing import moment_of, uid_of
from tests.samples import ct_series, dx, encode, odd_identities, one_of_each, uid
from tests.stored import FIRST_ARRIVAL

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """Let an hour pass with each call of the result."""
    hours = [0]

    def pass_on():
        hours[0] += 1

    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(hours=hours[0]))
    return pass_on


def found(client) -> dict:
    (answer,) = client.get("/inventories").json()
    return answer


def retrieved(client, url: str | None = None) -> pydicom.Dataset:
    answer = client.get(url or found(client)["00081190"]["Value"][0])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    return pydicom.dcmread(io.BytesIO(answer.content))


def test_it_lists_all_that_is_held(web, stored):
    samples = [encode(ds) for study in ("1", "2") for ds in (*one_of_each(study), *ct_series(3, study=study))]
    for number, sample in enumerate(samples):
        stored.put(sample, number)
    inventory = retrieved(web)
    assert (inventory.SOPClassUID, inventory.file_meta.MediaStorageSOPClassUID) == (
        "1.2.840.10008.5.1.4.1.1.201.1", "1.2.840.10008.5.1.4.1.1.201.1",
    )  # fmt: skip
    assert (inventory.InventoryLevel, inventory.InventoryCompletionStatus) == ("INSTANCE", "COMPLETE")
    assert (inventory.NumberOfStudyRecordsInInstance, inventory.TotalNumberOfStudyRecords) == (2, 2)
    assert inventory.ScopeOfInventorySequence == []
    assert {
        (study.StudyInstanceUID, series.SeriesInstanceUID, one.SOPClassUID, one.SOPInstanceUID, one.MAC.hex())
        for study in inventory.InventoriedStudiesSequence
        for series in study.InventoriedSeriesSequence
        for one in series.InventoriedInstancesSequence
    } == {
        (sample.dataset().StudyInstanceUID, sample.dataset().SeriesInstanceUID, sample.sop_class_uid,
         sample.sop_instance_uid, sample.sha256)
        for sample in samples
    }  # fmt: skip


def test_what_is_told_of_a_study(web, stored):
    stored.put(encode(dx(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192", StudyDescription="Größe")))
    (study,) = retrieved(web).InventoriedStudiesSequence
    assert (str(study.PatientName), study.StudyDescription, study.ModalitiesInStudy) == ("Müller^Jörg", "Größe", "DX")
    assert (study.NumberOfStudyRelatedInstances, study.RemovedFromOperationalUse) == (1, "N")
    assert study.StudyUpdateDateTime == FIRST_ARRIVAL.strftime("%Y%m%d%H%M%S.%f")
    (series,) = study.InventoriedSeriesSequence
    assert (series.Modality, series.SeriesNumber) == ("DX", 1)


def test_the_search_names_the_present(web, stored):
    stored.put(encode(dx()))
    answer = found(web)
    assert answer["00080023"]["Value"] == ["20260506"]
    inventory = retrieved(web)
    assert [inventory.SOPInstanceUID] == answer["00080018"]["Value"]
    assert (inventory.ContentDate, inventory.ContentTime) == (
        answer["00080023"]["Value"][0], answer["00080033"]["Value"][0],
    )  # fmt: skip


def test_an_inventory_stays_what_it_was(web, stored, now):
    stored.put(encode(dx()))
    url = found(web)["00081190"]["Value"][0]
    before = web.get(url).content
    now()
    later = int((NOW - FIRST_ARRIVAL).total_seconds())
    stored.put(encode(dx(study="2")), later)
    stored.put(encode(dx(PatientName="Another")), later)
    assert web.get(url).content == before
    now()
    assert retrieved(web).NumberOfStudyRecordsInInstance == 2


def test_one_is_found_by_its_uid(web, now):
    first = found(web)
    now()
    (again,) = web.get("/inventories", params={"SOPInstanceUID": first["00080018"]["Value"][0]}).json()
    assert again == first
    assert found(web) != first
    assert web.get("/inventories?00080018=1.2.3").json() == []
    assert web.get("/inventories?limit=0").json() == []


def test_an_empty_archive(web):
    inventory = retrieved(web)
    assert (inventory.InventoriedStudiesSequence, inventory.TotalNumberOfStudyRecords) == ([], 0)


def test_what_names_no_study_makes_it_partial(web, stored):
    for sample in odd_identities():
        stored.put(sample)
    inventory = retrieved(web)
    assert inventory.InventoryCompletionStatus == "PARTIAL"
    assert len(inventory.InventoriedStudiesSequence) == inventory.NumberOfStudyRecordsInInstance > 5


def test_as_a_multipart(web, stored):
    stored.put(encode(dx()))
    url = found(web)["00081190"]["Value"][0]
    answer = web.get(url, headers={"accept": 'multipart/related; type="application/dicom"'})
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    _, part, end = answer.content.split(b"--" + boundary)
    assert part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") == web.get(url).content
    assert end == b"--\r\n"


@pytest.mark.parametrize("name", ["1.2.3", "2.25.1", "2.25.x", "2.25." + "9" * 60, "..", "2.25.-5", "2.25.²"])
def test_others_are_not_found(web, name):
    assert web.get(f"/inventories/{name}").status_code in {400, 404, 405}


def test_the_future_is_not_found(web, stored):
    stored.put(encode(dx()))
    identity = stored.index.archive_identity()
    assert web.get(f"/inventories/{uid_of(identity, NOW)}").status_code == 404


def test_unknown_parameters(web):
    assert web.get("/inventories?PatientName=x").status_code == 400
    assert web.get("/inventories", headers={"accept": "image/png"}).status_code == 406


def test_a_uid_names_archive_and_moment():
    made = uid_of("abc", NOW)
    assert moment_of("abc", made) == NOW
    assert moment_of("another", made) is None
    assert len(made) <= 64
    named = uuid.UUID(int=int(made.removeprefix("2.25.")))
    assert (named.version, named.variant) == (8, uuid.RFC_4122)
    assert uid_of("abc", NOW) != uid("abc")
