"""The commands at a keyboard: in a real pseudo-terminal, narrow and wide, with their progress bars."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.samples import dx, encode, make_study
from tests.terminal import CTRL_C, Ended, terminal

WIDTHS = [40, 200]


@pytest.fixture
def type_(home, tmp_path):
    """Type a command line into a terminal of some width, and wait for its end."""

    def type_(*arguments: str | Path, columns: int) -> Ended:
        argv = (sys.executable, "-m", "backup_scp", *arguments)
        with terminal(*argv, columns=columns, env={"BACKUP_SCP_HOME": str(home)}, cwd=tmp_path) as shown:
            return shown.end()

    return type_


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_long_commands_with_their_bars(type_, tmp_path, columns):
    make_study(tmp_path / "drive", instances=3)
    for arguments, label, words in (
        (["import", tmp_path / "drive"], "Importing", "3 new"),
        (["verify"], "Verifying", "3 images intact"),
        (["restore", "--to", tmp_path / "restored", "--all"], "Restoring to", "confirmed by"),
        (["rebuild"], "Reading the archive", "3 images read"),
    ):
        ended = type_(*arguments, columns=columns)
        assert ended.code == 0, ended.text
        assert label.split()[0] in ended.text
        assert re.search(r"\b3 of [34](, [0-9.]+ kB)? [-0-9]", ended.text), "the numbers of the bar, not cut"
        assert any(words in line for line in ended.lines), ended.text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status"], 0, "1 patient"),
        (["check"], 1, "does not answer"),  # the node is a lock alone
        (["echo", "NOBODY@127.0.0.1:1"], 1, "cannot be reached"),
        (["index", "backup", "/dev/null"], 1, "is there already"),
        (["db", "upgrade"], 0, "up to date"),
        (["find", "--name", "Nobody"], 0, "No stored image"),
        (["import", "--help"], 0, "Usage"),
        (["--help"], 0, "Commands"),
        (["find", "--study-date", "2026"], 2, "--study-date"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_the_short_commands(type_, stored, arguments, code, words):
    stored.put(encode(dx()))
    for columns in WIDTHS:
        ended = type_(*arguments, columns=columns)
        assert ended.code == code, ended.text
        assert words in ended.text
        assert "Traceback" not in ended.text


UID = "1.2.826.0.1.3680043.10.54321." + "9" * 35


class TestFind:
    """UIDs can be copied, however narrow the terminal is."""

    @pytest.fixture
    def held(self, stored):
        """Hold three images of one study."""
        for number in (10, 2, 1):
            stored.put(
                encode(dx(study="1", StudyInstanceUID=UID, InstanceNumber=number, SOPInstanceUID=f"1.2.{number}"))
            )

    @pytest.mark.parametrize("columns", [40, 100, 200])
    @pytest.mark.parametrize(
        ("level", "uid"), [("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"), ("image", "SOPInstanceUID")]
    )
    def test_every_value_stands_there_whole(self, type_, run, held, columns, level, uid):
        rows = [json.loads(line) for line in run("find", "--level", level, "--json").out.splitlines()]
        ended = type_("find", "--level", level, columns=columns)
        assert ended.code == 0
        assert "…" not in ended.text
        for row in rows:
            for keyword in ("PatientID", "PatientName", "StudyDate", "AccessionNumber", uid):
                assert any(row[keyword] in line for line in ended.lines), keyword

    @pytest.mark.parametrize("columns", [40, 100, 200])
    def test_so_do_digests_and_times(self, type_, run, held, columns):
        rows = [json.loads(line) for line in run("find", "--versions", "all", "--json").out.splitlines()]
        ended = type_("find", "--versions", "all", columns=columns)
        for row in rows:
            for value in (
                row["sop_instance_uid"] if "sop_instance_uid" in row else row["SOPInstanceUID"],
                row["sha256"][:12],
            ):
                assert any(value in line for line in ended.lines), value
        assert ended.text.count("+0") + ended.text.count("-0") >= len(rows)  # Received, with its offset

    def test_a_row_is_a_line_where_there_is_room(self, type_, held):
        wide = type_("find", columns=200).lines
        assert any("Patient ID" in line and "Study Instance UID" in line for line in wide)
        narrow = type_("find", columns=100).lines
        assert f"  {UID}" in narrow
        assert any(line.startswith("Patient ID") and line.endswith("Images") for line in narrow)

    def test_images_come_in_their_order(self, type_, held):
        text = type_("find", "--level", "image", columns=200).text
        assert text.index(" 1.2.1\r") < text.index(" 1.2.2\r") < text.index(" 1.2.10\r")


@pytest.fixture
def interrupt(home, tmp_path):
    """Type a command line, and Ctrl-C in the N-th call of a function."""

    def interrupt(target: str, number: int, *arguments: str | Path) -> Ended:
        argv = (sys.executable, "-m", "tests.cli.paused", target, str(number), *arguments)
        with terminal(*argv, env={"BACKUP_SCP_HOME": str(home)}, cwd=tmp_path, columns=150) as shown:
            shown.wait_for("PAUSED")
            shown.press(CTRL_C)
            return shown.end()

    return interrupt


class TestCtrlC:
    """It prints what was done, and the same command continues."""

    @pytest.fixture
    def drive(self, tmp_path):
        make_study(tmp_path / "drive", patients=3, instances=3)
        return tmp_path / "drive"

    def test_import(self, interrupt, type_, drive):
        ended = interrupt("backup_scp.services.ingest:Ingest.accept", 4, "import", drive)
        assert ended.code == 130
        assert "3 new images, 0 already stored" in ended.text
        assert "Interrupted. Run the same command again: it skips images that are already stored" in ended.text
        again = type_("import", drive, columns=150)
        assert again.code == 0
        assert "6 new images, 3 already stored" in again.text

    def test_import_for_a_program(self, interrupt, drive):
        ended = interrupt("backup_scp.services.ingest:Ingest.accept", 4, "import", "--json", drive)
        assert ended.code == 130
        assert '"new":3,' in ended.text
        assert '"stopped":"Interrupted"' in ended.text

    def test_verify(self, run, interrupt, type_, drive):
        assert run("import", drive).code == 0
        ended = interrupt("backup_scp.archive.filesystem:FilesystemArchive.verify", 4, "verify")
        assert ended.code == 130
        assert "3 images intact" in ended.text
        assert "Interrupted. To read the rest: backup-scp verify --resume" in ended.text
        again = type_("verify", "--resume", columns=150)
        assert again.code == 0
        assert "6 images intact" in again.text
        assert "6 intact, and 3 checked before it was interrupted" in run("status").out

    def test_rebuild(self, run, interrupt, type_, drive):
        assert run("import", drive).code == 0
        ended = interrupt("backup_scp.index.sql_index:SQLIndex.reindex_studies", 1, "rebuild")
        assert ended.code == 130
        assert "Interrupted: 0 images indexed so far" in ended.text
        assert "Run the same command again: it continues from there" in ended.text
        assert "started by backup-scp rebuild" in run("status").out
        again = type_("rebuild", columns=150)
        assert again.code == 0
        assert "Index rebuilt: 9 images read from the archive" in again.text

    def test_restore(self, run, interrupt, type_, drive, tmp_path):
        assert run("import", drive).code == 0
        arguments = ("restore", "--to", tmp_path / "restored", "--all")
        ended = interrupt("backup_scp.copies.directory:DirectoryDestination.send", 4, *arguments)
        assert ended.code == 130
        assert "3 of 9" in ended.text
        assert "same command" in ended.text
        again = type_(*arguments, columns=150)
        assert again.code == 0
        assert len([path for path in (tmp_path / "restored").rglob("*") if path.is_file()]) == 9

    def test_the_receipt_of_a_restore(self, run, interrupt, drive, tmp_path):
        assert run("import", drive).code == 0
        receipt = tmp_path / "receipt.json"
        arguments = ("restore", "--to", tmp_path / "restored", "--all", "--receipt", receipt)
        ended = interrupt("backup_scp.copies.directory:DirectoryDestination.send", 5, *arguments)
        assert ended.code == 130
        assert "The receipt is " in ended.text
        found = json.loads(receipt.read_text("utf-8"))
        assert (found["complete"], found["facts"]["sent_now"], found["facts"]["not_there"]) == (False, 4, 5)
        assert found["problems"] == [
            "It was interrupted.",
            "5 images not tried, because it ended before.",
        ]
        assert [row["there"] for row in found["rows"]] == [3, 1, 0]


def test_a_recovery_from_old_files_asks_for_the_ae_title(tmp_path):
    """The home is new: from such files come no settings."""
    make_study(tmp_path / "old", instances=2)
    home = tmp_path / "new"
    command = (sys.executable, "-m", "backup_scp", "recover", tmp_path / "old", "--home", home, "--stop-when-done")
    with terminal(*command, env={"BACKUP_SCP_NODE__PORT": "0"}, cwd=tmp_path, columns=150) as shown:
        shown.wait_for("AE title of the node [BACKUP_SCP]:")
        shown.press(b"CLINIC\r")
        ended = shown.end()
    assert ended.code == 0, ended.text
    assert "is ready: AE title CLINIC" in ended.text
    assert "2 new images" in ended.text
    assert json.loads((home / "recovery-receipt.json").read_text())["complete"]


@pytest.mark.parametrize("text", ["", 'home = "elsewhere"\n'])
def test_a_recovery_refuses_a_home_that_its_settings_file_does_not_name(tmp_path, text):
    """The node would begin in another folder later, without what has come back."""
    make_study(tmp_path / "old", instances=1)
    (tmp_path / "settings.toml").write_text(f"[node]\n{text}")
    files = ("--config", tmp_path / "settings.toml", "--home", tmp_path / "new")
    command = (sys.executable, "-m", "backup_scp", "recover", tmp_path / "old", *files, "--yes")
    with terminal(*command, cwd=tmp_path, columns=400) as shown:
        ended = shown.end()
    assert ended.code == 1, ended.text
    assert f'set  home = "{tmp_path / "new"}"  there below [node]' in ended.text
    assert not (tmp_path / "new").exists()
