"""backup-scp restore --list: what a clinic exports, line by line."""

from __future__ import annotations

import pytest

from tests.samples import dx, encode, replace

STUDIES = {"1": "A", "2": "A", "3": "0042", "4": 'The "B"'}


def uid(study):
    return dx(study=study).StudyInstanceUID


@pytest.fixture
def four(stored):
    """Four studies of three patients; the newest is the last."""
    for study, patient in STUDIES.items():
        dates = {"StudyDate": f"2024010{study}", "AccessionNumber": f"ACC{study}"}
        stored.put(encode(dx(study=study, PatientID=patient, **dates)))
    return stored


@pytest.fixture
def restored(run, four, tmp_path):
    """Restore a list, and return what there is then, and how the command ended."""

    def restored(content, *options):
        file = tmp_path / "today.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "out"
        ran = run("restore", "--to", out, "--list", file, "--json", *options)
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        return "".join(study for study in STUDIES if uid(study) in there), ran

    return restored


@pytest.mark.parametrize(
    ("content", "studies"),
    [
        ("A\n", "12"),
        ("0042", "3"),
        ("\ufeffA\r\n0042\r\n", "123"),
        ("ACC2\n", "2"),
        (f"{uid('4')}\n  ACC1  \n\n", "14"),
        ("# today\nA # the first\n", ""),
        ("#A\n  # A\n0042\n", "3"),
        ("A,Doe^John,2024\n0042,x\n", "123"),
        ("A;Doe, John\n0042;x\n", "123"),
        ("A\tDoe John\n", "12"),
        ('"The ""B""";"A"\n', "4"),
        ('"0042"\n', "3"),
        ("Patient ID;Name\nA;x\n", "12"),
        ("patient_id,accession\n0042,ACC4\n", "3"),
        ("Accession Number\nACC1\n", "1"),
        ("StudyInstanceUID\n" + uid("2"), "2"),
        ("A\n".encode("utf-16"), "12"),
        ("A;Müller\n".encode("latin-1"), "12"),
        ("A\nA\nACC1\n", "12"),
    ],
)
def test_what_a_list_names(restored, content, studies):
    found, ran = restored(content)
    assert found == studies
    assert ran.code == (0 if studies else 1), ran.err


@pytest.mark.parametrize("content", ["Accession Number\nA\n", "Patient ID\nACC1\n", "42\n", "A*\n", "?042\n"])
def test_what_it_does_not_name(restored, content):
    """What a heading says otherwise; no wild cards; and not what a spreadsheet has made of 0042."""
    found, ran = restored(content)
    assert (found, ran.code, ran.json["unmatched"]) == ("", 1, content.splitlines()[-1:])


def test_lines_that_match_nothing_are_told_and_the_others_sent(run, four, tmp_path, restored):
    found, ran = restored("X\n0042\nY\n")
    assert (found, ran.code, ran.json["unmatched"], ran.json["complete"]) == ("3", 1, ["X", "Y"], False)
    ran = run("restore", "--to", tmp_path / "out", "--list", tmp_path / "today.csv")
    assert "2 lines of the list match no stored image:\n  X\n  Y\n" in ran.out
    assert "The image that was asked for is on" in ran.out


def test_other_options_narrow_a_list(restored):
    assert restored("A\n0042\n", "--since", "2024-01-02")[0] == "23"


def test_a_list_as_of_a_time(four, stored, restored):
    changed = replace(dx(study="3", PatientID="0042", StudyDate="20240103"), StudyDescription="Virus")
    stored.put(encode(changed), 90_000)
    found, ran = restored("0042\n", "--as-of", "2026-01-02T12:00Z")
    assert (found, ran.json["sent"]) == ("3", 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "names nothing"),
        ("# A\n\n", "names nothing"),
        ("Patient ID\n", "names nothing"),
        (b"%PDF-\0\0\0", "no text file"),
    ],
)
def test_what_is_no_list(restored, content, words):
    found, ran = restored(content)
    assert (found, ran.code) == ("", 1)
    assert words in ran.err


@pytest.mark.parametrize("options", [["--all"], ["--version", "0123456789ab"]])
def test_options_that_contradict_a_list(restored, options):
    found, ran = restored("A\n", *options)
    assert (found, ran.code) == ("", 1)
    assert "leave out" in ran.err


def test_a_list_that_is_not_there(run, four, tmp_path):
    ran = run("restore", "--to", tmp_path / "out", "--list", tmp_path / "no.csv")
    assert ran.code == 1
    assert "no.csv cannot be read (No such file or directory)" in ran.err


def test_the_studies_of_today(run, stored, tmp_path, clock):
    today = clock.time.astimezone()
    for study, date in {"old": "20240101", "new": f"{today:%Y%m%d}"}.items():
        stored.put(encode(dx(study=study, StudyDate=date)))
    ran = run("restore", "--to", tmp_path / "out", "--since", "today")
    assert ran.code == 0, ran.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [uid("new")]


@pytest.mark.parametrize("hours", ["20-6", "20:00", "20:00-20:00"])
def test_hours_that_are_none(run, tmp_path, hours):
    ran = run("restore", "--to", tmp_path, "--all", "--hours", hours)
    assert ran.code == 2
    assert "20:00-06:30" in ran.err
