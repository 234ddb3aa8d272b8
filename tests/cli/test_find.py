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
    assert (ran.code, ran.out) == (0, "No stored image matches\n")


@pytest.mark.parametrize(
    "date",
    ["yesterday", "2026", "20260101-2027", "-", "20261301", "2026-02-30", "20260102-20260101", "2026010120260102"],
)
def test_a_date_that_is_none(run, stored, date):
    ran = run("find", f"--study-date={date}")
    assert ran.code == 2
    assert "--study-date" in ran.err


@pytest.fixture
def four(stored):
    """Four studies of three patients, a day each."""
    for number, patient in enumerate(["SM0001", "SM0002", "SM0002", "OTHER"]):
        facts = {"PatientID": patient, "StudyDate": f"2026010{number + 1}", "PatientName": f"N{number}^A"}
        stored.put(encode(dx(study=str(number), **facts)))
    return [dx(study=str(number)).StudyInstanceUID for number in range(4)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--patient-id", "SM0001", "--patient-id", "OTHER"], [0, 3]),
        (["--patient-id", "SM*"], [0, 1, 2]),
        (["--patient-id", "SM*", "--patient-id", "OTHER", "--since", "2026-01-02"], [1, 2, 3]),
        (["--since", "20260102", "--until", "2026-01-03"], [1, 2]),
        (["--study-date", "2026-01-01"], [0]),
        (["--study-date", "2026-01-01-2026-01-02"], [0, 1]),
        (["--study-date", "20260101-2026-01-02", "--study-date", "2026-01-04-"], [0, 1, 3]),
        (["--study-date", "-2026-01-02", "--until", "2026-01-01"], [0]),
        (["--name", "n0*", "--name", "N3^A"], [0, 3]),
        (["--modality", "DX", "--modality", "US"], [0, 1, 2, 3]),
        (["--modality", "US"], []),
    ],
)
def test_what_is_said_twice_is_either_and_restore_takes_the_same(run, four, tmp_path, options, found):
    wanted = {four[number] for number in found}
    lines = run("find", "--json", *options).out.splitlines()
    assert {json.loads(line)["StudyInstanceUID"] for line in lines} == wanted
    ran = run("restore", "--to", tmp_path / "out", *options)
    assert ran.code == (0 if found else 1)
    assert {path.name for path in (tmp_path / "out").glob("*")} == wanted


def test_several_studies_and_one_image(run, four, tmp_path):
    ran = run("find", "--json", "--study", four[0], "--study", four[2])
    assert len(ran.out.splitlines()) == 2
    uid = dx(study="1").SOPInstanceUID
    ran = run("find", "--instance", uid, "--json")
    assert (ran.json["SOPInstanceUID"], ran.json["PatientID"]) == (uid, "SM0002")
    assert run("find", "--instance", uid, "--level", "study").code == 1
    assert run("restore", "--to", tmp_path / "out", "--instance", uid).code == 0
    assert [path.stem for path in (tmp_path / "out").rglob("*.dcm")] == [uid]


def test_an_empty_range_is_refused_by_both(run, four, tmp_path):
    for command in (["find"], ["restore", "--to", tmp_path / "out"]):
        ran = run(*command, "--since", "20261103", "--until", "20261101")
        assert ran.code == 1
        assert "the earlier date belongs to --since" in ran.err
    assert run("restore", "--to", tmp_path / "out", "--since", "20271301").code == 2
    assert not (tmp_path / "out").exists()


def test_a_key_below_the_level(run, stored):
    ran = run("find", "--level", "patient", "--accession", "1")
    assert ran.code == 1
    assert "--level study" in ran.err


def test_a_name_cannot_command_the_terminal(run, stored):
    stored.put(encode(dx(PatientName="A\x1b[2J^B")))
    assert "\x1b" not in run("find").out
