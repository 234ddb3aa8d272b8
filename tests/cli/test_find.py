"""backup-scp find."""

from __future__ import annotations

import json

import pytest

from tests.samples import ct_series, dx, encode


@pytest.fixture
def held(stored):
    """Two patients: one with a DX study, one with a CT study of two slices."""
    stored.put(encode(dx(study="1", PatientID="A1", PatientName="Müller^Hans", SpecificCharacterSet="ISO_IR 192")))
    for ds in ct_series(2, study="2", PatientID="B_2", PatientName="Łoś^Anna", SpecificCharacterSet="ISO_IR 192"):
        ds.StudyDate = "20250607"
        ds.AccessionNumber = "ACC9"
        stored.put(encode(ds))
    return stored


def studies(ran):
    assert ran.code == 0, ran.err
    return sorted(json.loads(line)["PatientID"] for line in ran.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "patients"),
    [
        ([], ["A1", "B_2"]),
        (["--patient-id", "A1"], ["A1"]),
        (["--patient-id", "?_*"], ["B_2"]),
        (["--name", "M*"], ["A1"]),
        (["--accession", "ACC9"], ["B_2"]),
        (["--study-date", "20250607"], ["B_2"]),
        (["--study-date", "20240101-20241231"], ["A1"]),
        (["--study-date", "20250101-"], ["B_2"]),
        (["--study-date", "-20250101"], ["A1"]),
        (["--modality", "CT"], ["B_2"]),
        (["--modality", "DX", "--level", "series"], ["A1"]),
        (["--level", "image"], ["A1", "B_2", "B_2"]),
        (["--level", "patient"], ["A1", "B_2"]),
        (["--level", "image", "--limit", "1"], 1),
        (["--level", "image", "--limit", "0"], 3),
        (["--name", "Nobody"], []),
    ],
)
def test_json_lines(run, held, arguments, patients):
    found = studies(run("find", "--json", *arguments))
    assert found == patients or len(found) == patients


def test_by_study_uid(run, held):
    uid = dx(study="1").StudyInstanceUID
    assert studies(run("find", "--json", "--study", uid)) == ["A1"]


def test_a_table_for_people(run, held):
    out = run("find").out
    assert "Müller^Hans" in out
    assert "Łoś^Anna" in out
    assert out.splitlines()[0].split("  ")[:2] == ["Patient ID", "Name"]
    assert "first 1 " in run("find", "--limit", "1").out


def test_nothing_found(run, stored):
    ran = run("find", "--name", "Nobody")
    assert (ran.code, ran.out) == (0, "Nothing that is held matches\n")


@pytest.mark.parametrize("date", ["yesterday", "2026", "20260101-2027", "-"])
def test_a_date_that_is_none(run, stored, date):
    ran = run("find", f"--study-date={date}")
    assert ran.code == 1
    assert "--study-date is" in ran.err


def test_a_key_below_the_level(run, stored):
    ran = run("find", "--level", "patient", "--accession", "1")
    assert ran.code == 1
    assert "--level study" in ran.err


def test_a_name_cannot_command_the_terminal(run, stored):
    stored.put(encode(dx(PatientName="A\x1b[2J^B")))
    assert "\x1b" not in run("find").out
