"""backup-scp restore --receipt: what is in it, where it may be, and that nobody else reads it."""

from __future__ import annotations

import json
import stat

import pytest

from backup_scp import __version__
from backup_scp.errors import IndexUnavailable
from backup_scp.index.sql_index import SQLIndex
from tests.samples import ct_series, dx, encode
from tests.selections import narrowed


@pytest.fixture
def two(stored):
    """A study of one image, and a newer one of three."""
    stored.put(encode(dx(study="1", PatientID="P1", PatientName="Иванов^Иван", AccessionNumber="A1", **RUSSIAN)))
    for ds in ct_series(3, study="2"):
        stored.put(encode(ds))
    return stored


RUSSIAN = {"SpecificCharacterSet": "ISO_IR 192", "StudyDate": "20200131"}


@pytest.fixture
def receipt(run, two, tmp_path):
    """Restore to a folder with a receipt in JSON, and return it, and how the command ended."""

    def receipt(*options):
        ran = run("restore", "--to", tmp_path / "out", "--receipt", tmp_path / "receipt.json", *options)
        return json.loads((tmp_path / "receipt.json").read_text("utf-8")), ran

    return receipt


def test_a_restore_that_is_complete(receipt, two, tmp_path):
    found, ran = receipt("--all")
    assert ran.code == 0
    assert f"The receipt is {tmp_path / 'receipt.json'}" in ran.out
    assert (found["complete"], found["problems"]) == (True, [])
    assert found["result"] == f"Complete: 4 images asked for, and all are on {tmp_path / 'out'}."
    facts = found["facts"]
    assert facts["version"] == f"backup-scp {__version__}"
    assert facts["from"].startswith("BACKUP_SCP on ")
    assert facts["archive"] == two.index.archive_identity()
    assert facts["command"].endswith("receipt.json --all")
    assert (facts["studies"], facts["images_asked_for"], facts["sent_now"], facts["not_there"]) == (2, 4, 4, 0)
    assert facts["began"] <= facts["ended"]
    newest, russian = found["rows"]
    assert (newest["images"], newest["there"]) == (3, 3)
    assert russian == {
        "study_date": "2020-01-31",
        "patient_id": "P1",
        "patient_name": "Иванов^Иван",
        "accession_number": "A1",
        "images": 1,
        "there": 1,
        "confirmed": "read back",
        "confirmation": "answered",
        "study_instance_uid": dx(study="1").StudyInstanceUID,
    }


def test_what_is_missing_and_why(receipt, two):
    two.flip(two.index.select(narrowed(patient_id="P1"))[0].location)
    found, ran = receipt("--all")
    assert ran.code == 1
    assert found["result"].startswith("NOT complete: 4 images asked for, 3 are on ")
    (problem,) = found["problems"]
    assert problem.startswith("1 image not sent: Иванов^Иван (P1), study of 20200131, DX: ")
    assert [(row["there"], row["confirmation"]) for row in found["rows"]] == [(3, "answered"), (0, "none")]


def test_lines_of_a_list_that_match_nothing(receipt, tmp_path):
    (tmp_path / "list.txt").write_text("P1\nNobody\n")
    found, ran = receipt("--list", str(tmp_path / "list.txt"))
    assert ran.code == 1
    assert (len(found["rows"]), found["problems"]) == (1, ["No stored image matches Nobody"])


def test_nothing_matches(receipt):
    found, ran = receipt("--patient-id", "Nobody")
    assert (ran.code, found["rows"], found["complete"]) == (1, [], False)


def test_without_an_index_it_has_the_uids(receipt, monkeypatch):
    def broken(*_):
        raise IndexUnavailable("Gone")
        yield

    monkeypatch.setattr(SQLIndex, "search", broken)
    found, ran = receipt("--all")
    assert ran.code == 0
    assert {row["study_instance_uid"] for row in found["rows"]} == {dx(study=s).StudyInstanceUID for s in "12"}
    assert {row["patient_id"] for row in found["rows"]} == {""}


@pytest.mark.parametrize("form", ["txt", "pdf"])
def test_the_forms_for_people(run, two, tmp_path, form):
    path = tmp_path / f"receipt.{form}"
    ran = run("restore", "--to", tmp_path / "out", "--all", "--json", "--receipt", path)
    assert (ran.code, ran.json["receipt"]) == (0, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"%PDF" if form == "pdf" else b"Receipt of a restore\n")


def test_the_log_names_no_patient(receipt, two, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_LOG__LEVEL", "DEBUG")
    two.flip(two.index.select(narrowed(patient_id="P1"))[0].location)
    _, ran = receipt("--all", "--json")
    logs = ran.err
    assert "not sent to" in logs
    assert "P1" not in logs
    assert "Иванов" not in logs


def test_one_that_cannot_be_written_is_told_before_anything_is_sent(run, two, tmp_path, home):
    for path, words in {
        tmp_path / "receipt.doc": ".txt, .json or .pdf",
        tmp_path / "no" / "receipt.txt": "No such file",
        home / "archive" / "receipt.txt": "the node keeps its own data",
    }.items():
        ran = run("restore", "--to", tmp_path / "out", "--all", "--receipt", path)
        assert ran.code == 1
        assert words in ran.err
    assert not (tmp_path / "out").exists()


def test_one_that_cannot_be_written_at_the_end_makes_the_exit_code_1(run, two, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backup_scp.receipts.receipt_file.write_text", full)
    ran = run("restore", "--to", tmp_path / "out", "--all", "--receipt", tmp_path / "receipt.txt")
    assert ran.code == 1
    assert "No space left on device" in ran.err
    assert "All 4 images that were asked for are on" in ran.out
    assert not (tmp_path / "receipt.txt").exists()
