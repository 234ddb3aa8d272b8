"""backup-scp restore to a folder: which images are selected, and where they go."""

from __future__ import annotations

import pytest

from tests.samples import dx, encode
from tests.selections import narrowed


@pytest.fixture
def three(stored):
    """Three studies of two patients, one with two versions."""
    for number, (patient, date) in enumerate([("A", "20240101"), ("A", "20250101"), ("B", "20260101")]):
        stored.put(encode(dx(study=str(number), PatientID=patient, StudyDate=date)))
    stored.put(encode(dx(study="2", PatientID="B", StudyDate="20260101", StudyDescription="Corrected")), 9)
    return stored


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (["--all"], 3),
        (["--all", "--versions", "all"], 4),
        (["--patient-id", "A"], 2),
        (["--patient-id", "A", "--since", "20241231"], 1),
        (["--since", "2025-01-01"], 2),
        (["--until", "20250101"], 2),
        (["--since", "20250101", "--until", "20250101"], 1),
        (["--study", dx(study="2").StudyInstanceUID], 1),
        (["--study", dx(study="2").StudyInstanceUID, "--versions", "all"], 2),
    ],
)
def test_what_is_selected(run, three, tmp_path, selection, count):
    ran = run("restore", "--to", tmp_path / "out", *selection)
    assert ran.code == 0, ran.err
    assert len(files(tmp_path / "out")) == count


def test_again_sends_only_what_is_missing(run, three, tmp_path):
    out = tmp_path / "out"
    run("restore", "--to", out, "--all")
    missing, *_ = files(out)
    content = missing.read_bytes()
    missing.unlink()
    found = run("restore", "--to", out, "--all", "--json").json
    assert (found["sent"], found["already_there"], found["confirmed_before"]) == (3, 2, 0)
    assert missing.read_bytes() == content


def test_nothing_selected(run, three, tmp_path):
    ran = run("restore", "--to", tmp_path / "out")
    assert ran.code == 1
    assert "--all" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_selection_that_contradicts_itself(run, three, tmp_path):
    assert run("restore", "--to", tmp_path / "out", "--all", "--patient-id", "A").code == 1


def test_nothing_that_matches(run, three, tmp_path):
    ran = run("restore", "--to", tmp_path / "out", "--patient-id", "C")
    assert ran.code == 1
    assert "No stored image matches" in ran.out


@pytest.mark.parametrize("option", [["--since", "yesterday"], ["--throttle", "-1"], ["--versions", "some"]])
def test_an_option_that_is_wrong(run, tmp_path, option):
    assert run("restore", "--to", tmp_path, "--all", *option).code == 2


def test_damage_is_told_and_the_rest_goes(run, three, tmp_path):
    location = three.index.select(three_a())[0].location
    three.flip(location)
    ran = run("restore", "--to", tmp_path / "out", "--all", "--json")
    assert ran.code == 1
    assert (ran.json["sent"], len(ran.json["failed"])) == (2, 1)
    assert len(files(tmp_path / "out")) == 2


def three_a():
    return narrowed(patient_id="A")


class TestWhereTo:
    def test_a_folder_that_exists(self, run, three, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "drive").mkdir()
        assert run("restore", "--to", "drive", "--all").code == 0
        assert len(files(tmp_path / "drive")) == 3

    def test_a_new_folder_needs_a_separator(self, run, three, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ran = run("restore", "--to", "drive", "--all")
        assert ran.code == 1
        assert "./drive" in ran.err
        assert not (tmp_path / "drive").exists()
        assert run("restore", "--to", "./drive", "--all").code == 0
        assert len(files(tmp_path / "drive")) == 3

    def test_the_folder_that_it_is_in_has_to_exist(self, run, three, tmp_path):
        ran = run("restore", "--to", tmp_path / "not" / "connected", "--all")
        assert ran.code == 1
        assert "is the drive connected" in ran.out

    @pytest.mark.parametrize("folder", ["", "archive", "restored", "archive/deeper"])
    def test_a_folder_of_the_node_is_refused(self, run, three, home, folder):
        """What lies in the archive counts as the archive's."""
        before = sorted(home.rglob("*"))
        ran = run("restore", "--to", home / folder, "--all")
        assert ran.code == 1
        assert "the node keeps its own data" in ran.err
        assert sorted(home.rglob("*")) == before
