"""find and restore as of a time, and with the versions of an image."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
from pydicom import dcmread

from backup_scp.cli import options
from backup_scp.ports import VerificationResult
from tests.index.examples import version
from tests.samples import dx, encode

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


def restored(run, folder, *selection):
    """Restore to a new folder; return the Study Description of each file there."""
    ran = run("restore", "--to", folder, *selection)
    assert ran.code == 0, ran.err
    return sorted(str(dcmread(path).StudyDescription) for path in folder.rglob("*.dcm"))


@pytest.fixture
def corrected(stored):
    """One image, its correction ten seconds later, and between them another one from a stranger."""
    for number, (description, sender) in enumerate([("first", "DR"), ("clash", "STRANGER"), ("second", "DR")]):
        stored.put(encode(dx(StudyDescription=description)), 5 * number, calling_ae_title=sender)
    return stored


@pytest.fixture
def local_time(monkeypatch):
    """Set this process's time zone."""

    def set_zone(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def digest(stored, number):
    """Give the SHA-256 of a version; 0 came first."""
    return sorted(stored.index.versions(), key=lambda held: held.received_at)[number].sha256


class TestAsOf:
    @pytest.mark.parametrize(
        ("moment", "expected"),
        [
            ("2026-01-01", []),
            ("2026-01-02", ["second"]),
            ("2026-01-02T03:03", []),
            ("2026-01-02T03:04Z", ["second"]),
            ("2026-01-02T03:04:04", []),
            ("2026-01-02T03:04:05", ["first"]),
            ("2026-01-02 03:04:05.678900", []),
            ("2026-01-02T03:04:05.678901", ["first"]),
            ("2026-01-02T05:34:14+02:30", ["first"]),
            ("2026-01-01T20:04:15-07:00", ["second"]),
            ("9999-01-01", ["second"]),
        ],
    )
    def test_the_version_that_answered_then(self, run, corrected, tmp_path, local_time, moment, expected):
        local_time("UTC")
        out = tmp_path / "out"
        if expected:
            assert restored(run, out, "--all", "--as-of", moment) == expected
        else:
            assert "No stored image matches" in run("restore", "--to", out, "--all", "--as-of", moment).out

    def test_all_versions_that_had_come(self, run, corrected, tmp_path, local_time):
        local_time("UTC")
        selection = ["--all", "--versions", "all", "--as-of", "2026-01-02T03:04:10"]
        assert restored(run, tmp_path / "out", *selection) == ["clash", "first"]

    @pytest.mark.parametrize(
        ("zone", "text", "moment"),
        [
            ("JST-9", "2026-01-31T14:30", "2026-01-31T05:30:59.999999+00:00"),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-01-31", "2026-02-01T04:59:59.999999+00:00"),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-01-31T14:30Z", "2026-01-31T14:30:59.999999+00:00"),
            (BERLIN, "2026-10-25T02:30:00", "2026-10-25T01:30:00.999999+00:00"),  # twice: the second
            (BERLIN, "2026-03-29T02:30:00", "2026-03-29T01:30:00.999999+00:00"),  # left out: as before the change
            (BERLIN, "2026-03-29", "2026-03-29T21:59:59.999999+00:00"),
        ],
    )
    def test_without_an_offset_it_is_local_time(self, local_time, zone, text, moment):
        local_time(zone)
        assert options.moment(text).isoformat() == moment

    @pytest.mark.parametrize(
        "text",
        ["", "yesterday", "20260131", "2026-13-01", "2026-02-29", "2026-01-31T", "2026-01-31T25:00", "2026-01-31T14",
         "2026-01-31T14:30:60", "2026-01-31T14:30.5", "2026-01-31Z", "2026-W05-1", "0001-01-01T00:00+14:00",
         "٢٠٢٦-01-31"],
    )  # fmt: skip
    def test_what_is_no_time(self, run, corrected, tmp_path, text):
        ran = run("restore", "--to", tmp_path / "out", "--all", "--as-of", text)
        assert ran.code == 2
        assert "write the time as" in " ".join(ran.err.split())

    def test_it_selects_nothing_by_itself(self, run, corrected, tmp_path):
        ran = run("restore", "--to", tmp_path / "out", "--as-of", "2026-01-02")
        assert ran.code == 1
        assert "--all" in ran.err


class TestVersion:
    def test_exactly_those_that_are_named(self, run, corrected, tmp_path):
        first, clash = digest(corrected, 0), digest(corrected, 1)
        assert restored(run, tmp_path / "one", "--version", clash[:12].upper()) == ["clash"]
        both = restored(run, tmp_path / "both", "--version", clash, "--version", first[:20])
        assert both == ["clash", "first"]

    def test_digits_that_no_version_has(self, run, corrected, tmp_path):
        known = digest(corrected, 0)[:12]
        ran = run("restore", "--to", tmp_path / "out", "--version", known, "--version", "0123456789ab")
        assert ran.code == 1
        assert "0123456789ab" in ran.err
        assert "find --versions all" in ran.err
        assert not (tmp_path / "out").exists()

    def test_digits_that_two_versions_have(self, run, stored, tmp_path):
        for end in "ab":
            sha256 = "ab" * 31 + f"0{end}"
            stored.index.add(dataclasses.replace(version(f"1.{end}"), sha256=sha256, location=f"{sha256}.dcm"))
        ran = run("restore", "--to", tmp_path / "out", "--version", "ab" * 20)
        assert ran.code == 1
        assert "more digits" in ran.err
        assert f"{'ab' * 31}0b" in ran.err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("digits", ["", "0123456789a", "0" * 65, "0123456789ag", "*" * 12])
    def test_what_is_no_digest(self, run, corrected, tmp_path, digits):
        ran = run("restore", "--to", tmp_path / "out", "--version", digits)
        assert ran.code == 2
        assert "12 to 64 hex digits" in " ".join(ran.err.split())

    @pytest.mark.parametrize("more", [["--all"], ["--versions", "all"], ["--as-of", "2026-01-02"]])
    def test_what_contradicts_it(self, run, corrected, tmp_path, more):
        ran = run("restore", "--to", tmp_path / "out", "--version", digest(corrected, 0), *more)
        assert ran.code == 1
        assert "--version names what to send" in ran.err

    def test_other_options_narrow_it(self, run, corrected, tmp_path):
        found = digest(corrected, 0)
        assert restored(run, tmp_path / "out", "--version", found, "--study", dx().StudyInstanceUID) == ["first"]
        assert run("restore", "--to", tmp_path / "no", "--version", found, "--patient-id", "X").code == 1


class TestFindAsOf:
    @pytest.fixture
    def life(self, stored):
        """A study of a wrong patient, corrected; a second image of it; another study."""
        stored.put(encode(dx(number=1, PatientID="WRONG")), 0)
        stored.put(encode(dx(study="other", PatientID="OTHER")), 5)
        stored.put(encode(dx(number=1, PatientID="RIGHT")), 10)
        stored.put(encode(dx(number=2, PatientID="RIGHT")), 20)
        return stored

    def found(self, run, second, *arguments, exit_code=0):
        ran = run("find", "--json", "--as-of", f"2026-01-02T03:04:{second:02}Z", *arguments)
        assert ran.code == exit_code, ran.err
        rows = [json.loads(line) for line in ran.out.splitlines()]
        return {row["PatientID"]: row.get("NumberOfStudyRelatedInstances") for row in rows}

    def test_everything_is_as_it_was(self, run, life):
        assert self.found(run, 4) == {}
        assert self.found(run, 5) == {"WRONG": "1"}
        assert self.found(run, 14) == {"WRONG": "1", "OTHER": "1"}
        assert self.found(run, 15) == {"RIGHT": "1", "OTHER": "1"}
        assert self.found(run, 25) == {"RIGHT": "2", "OTHER": "1"}
        assert self.found(run, 14, "--patient-id", "WRONG") == {"WRONG": "1"}
        assert self.found(run, 14, "--patient-id", "RIGHT") == {}
        assert self.found(run, 5, "--study", dx().StudyInstanceUID, "--level", "image") == {"WRONG": None}

    def test_it_is_what_restore_brings(self, run, life, tmp_path):
        for second in (5, 14, 15, 25):
            out, moment = tmp_path / str(second), f"2026-01-02T03:04:{second:02}Z"
            assert run("restore", "--to", out, "--all", "--as-of", moment).code == 0
            assert {dcmread(path).PatientID for path in out.rglob("*.dcm")} == self.found(run, second).keys()

    def test_the_restore_of_a_patient_of_that_time(self, run, life, tmp_path):
        selection = ["--patient-id", "WRONG", "--as-of", "2026-01-02T03:04:14Z"]
        assert run("restore", "--to", tmp_path / "out", *selection).code == 0
        assert [dcmread(path).PatientID for path in (tmp_path / "out").rglob("*.dcm")] == ["WRONG"]

    def test_a_file_that_cannot_be_read_is_told(self, run, life):
        wrong = min(life.index.versions(), key=lambda held: held.received_at)
        life.path(wrong.location).unlink()
        assert self.found(run, 14, exit_code=1) == {"OTHER": "1"}
        assert "1 file of that time" in run("find", "--as-of", "2026-01-02T03:04:14Z").err

    @pytest.mark.parametrize("more", [["--level", "patient"], ["--versions", "all"]])
    def test_what_cannot_be_told(self, run, life, more):
        ran = run("find", "--as-of", "2026-01-02", *more)
        assert ran.code == 1
        assert "--as-of searches studies" in ran.err


class TestFind:
    def found(self, run, *arguments):
        ran = run("find", "--versions", "all", "--json", *arguments)
        assert ran.code == 0, ran.err
        return [json.loads(line) for line in ran.out.splitlines()]

    def test_a_line_for_each_version(self, run, corrected):
        stored = [held for _, held in sorted((held.received_at, held) for held in corrected.index.versions())]
        rows = self.found(run)
        assert [row["sha256"] for row in rows] == [held.sha256 for held in stored]
        assert [row["location"] for row in rows] == [held.location for held in stored]
        assert [(row["calling_ae_title"], row["answering"], row["flags"]) for row in rows] == [
            ("DR", False, []),
            ("STRANGER", False, ["clash"]),
            ("DR", True, []),
        ]
        assert {row["SOPInstanceUID"] for row in rows} == {dx().SOPInstanceUID}
        assert rows[0]["received_at"] == "2026-01-02T03:04:05.678901Z"
        assert rows[0].keys() >= {"service", "called_ae_title", "address", "site", "size_bytes", "transfer_syntax_uid"}

    def test_damage_is_a_flag(self, run, corrected):
        clash = self.found(run)[1]
        corrected.index.record_verification([VerificationResult(clash["location"], "its digest is another")])
        assert self.found(run)[1]["flags"] == ["clash", "damaged"]

    def test_what_it_prints_is_what_restore_reads(self, run, corrected, tmp_path, local_time):
        local_time(BERLIN)
        _, first, clash, _ = run("find", "--versions", "all").out.splitlines()
        received, sender, sha256, *_ = first.split()[-3:]
        assert (received, sender) == ("2026-01-02T04:04:05.678901+01:00", "DR")
        assert restored(run, tmp_path / "then", "--all", "--as-of", received) == ["first"]
        assert restored(run, tmp_path / "it", "--version", sha256) == ["first"]
        assert clash.split()[-1] == "clash"

    def test_keys_narrow_it(self, run, corrected):
        corrected.put(encode(dx(study="other", PatientID="P2")), 99, site="north")
        (row,) = self.found(run, "--patient-id", "P2")
        assert (row["PatientID"], row["site"]) == ("P2", "north")
        assert "(north)" in run("find", "--versions", "all", "--patient-id", "P2").out
        assert len(self.found(run, "--study", dx().StudyInstanceUID, "--level", "image")) == 3
        assert self.found(run, "--modality", "CT") == []

    def test_the_limit_counts_lines(self, run, corrected):
        assert len(self.found(run, "--limit", "2")) == 2
        assert "first 2 " in run("find", "--versions", "all", "--limit", "2").out

    @pytest.mark.parametrize("level", ["patient", "study", "series"])
    def test_another_level_has_no_versions(self, run, corrected, level):
        ran = run("find", "--versions", "all", "--level", level)
        assert ran.code == 1
        assert "--level image" in ran.err
