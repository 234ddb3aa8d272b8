"""`drill`: a healthy copy passes, and each kind of sabotage is found by its name."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup_scp.copies.cloud.sealing import make_keys
from backup_scp.machine import clock
from tests.cli.test_copies import images
from tests.dicom.transcode.series import lossless_series
from tests.samples import ct_series, dx, encode, with_value
from tests.services.test_copying import tiny

DRIVE = "drive"
COPY = '[[copy]]\nname = "drive"\nurl = "file://{}"\n'


def of_image(folder: Path, sop_instance_uid: str) -> Path:
    """Return the file of an image on a plain drive."""
    (found,) = [path for path in images(folder) if sop_instance_uid.encode() in path.read_bytes()]
    return found


@pytest.fixture
def drive(run, stored, home, tmp_path, monkeypatch) -> Path:
    """Return a drive that has everything of an archive: a series, an X-ray, its earlier version, ten small images."""
    folder = tmp_path / "media" / "disk"
    settings = tmp_path / "backup-scp.toml"
    settings.write_text(COPY.format(folder))
    monkeypatch.setenv("BACKUP_SCP_CONFIG", str(settings))
    samples = [*map(encode, ct_series(3)), encode(dx()), encode(dx(StudyDescription="later")), *map(tiny, range(10))]
    for number, sample in enumerate(samples):
        stored.put(sample, number)
    folder.parent.mkdir()
    assert run("copies", "init", DRIVE, "--same-disk").code == 0
    assert run("copies", "sync").code == 0
    return folder


def contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_a_healthy_copy_passes_and_nothing_is_left_or_changed(run, drive, home):
    before = contents(drive, home / "archive")
    ran = run("drill", "--all", "--json")
    assert ran.code == 0, ran.out + ran.err
    (found,) = ran.json["drills"]
    assert (found["passed"], found["tried"], found["came_back"], found["held"]) == (True, 15, 15, 15)
    assert (found["problems"], found["unproven"], found["index_lacks"]) == ([], [], 0)
    assert found["decoded"] == 15
    assert found["first_study_s"] < found["everything_s"]
    assert contents(drive, home / "archive") == before
    assert not list((home / "drills").glob("backup-scp-drill-*/"))


def test_a_sample_is_smaller_and_says_so_in_words(run, drive):
    told = run("drill", "--sample", 4)
    assert told.code == 0
    assert "drive (drive): passed. 4 of 4 images came back, byte for byte" in told.out
    assert re.search(r"back on a console: the first study in \d+ s, everything \(15 images, .*\) in \d+ s", told.out)


def test_an_empty_copy_proves_nothing(run, drive, tmp_path):
    (tmp_path / "backup-scp.toml").write_text(COPY.format(tmp_path / "media" / "empty"))
    run("copies", "init", DRIVE, "--same-disk")
    ran = run("drill")
    assert (ran.code, "drive: NOT TRIED. It has no images yet: backup-scp copies sync drive" in ran.out) == (1, True)
    assert run("status", "--json").json["drills"] == []


def test_the_folder_for_temporary_files_can_be_named(run, drive, tmp_path):
    (tmp_path / "elsewhere").write_text("")
    ran = run("drill", "--scratch", tmp_path / "elsewhere")
    assert ran.code == 1
    assert "elsewhere cannot take the drill's files" in ran.out
    assert run("drill", "--scratch", tmp_path / "other").code == 0


# -- sabotage ----------------------------------------------------------------------------------------------------------


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    write(file, content)


def write(file: Path, content: bytes | bytearray) -> None:
    file.chmod(0o600)
    file.write_bytes(content)


def swap(drive: Path) -> None:
    first, second = of_image(drive, tiny(3).sop_instance_uid), of_image(drive, tiny(4).sop_instance_uid)
    one, other = first.read_bytes(), second.read_bytes()
    write(first, other)
    write(second, one)


def use_the_old_version(drive: Path) -> None:
    old, new = sorted(
        (path for path in images(drive) if encode(dx()).sop_instance_uid.encode() in path.read_bytes()),
        key=lambda path: b"later" in path.read_bytes(),
    )
    write(new, old.read_bytes())


def put_a_foreign_image(drive: Path) -> None:
    write(of_image(drive, tiny(3).sop_instance_uid), b"\0" * 128 + b"DICM" + encode(dx(study="77")).data_set)


def use_yesterdays_index(drive: Path) -> None:
    """Exchange the index by one that lacks the last images, and was taken before them."""
    with closing(sqlite3.connect(drive / "BACKUPSC/INDEX.SQLITE")) as index, index:
        index.execute("DELETE FROM version WHERE id > 12")
    said = json.loads((drive / "BACKUPSC/INDEX.TXT").read_text())
    said["taken"] = (clock.now() - timedelta(hours=30)).isoformat(timespec="seconds")
    (drive / "BACKUPSC/INDEX.TXT").write_text(json.dumps(said))


def change_the_archive_of_the_index(drive: Path) -> None:
    with closing(sqlite3.connect(drive / "BACKUPSC/INDEX.SQLITE")) as index, index:
        index.execute("UPDATE archive SET identity = ?", ("f" * 32,))


def forget_in_index_and_lists(drive: Path) -> None:
    use_yesterdays_index(drive)
    for listed in drive.glob("*/*/SHA256*.TXT"):
        listed.unlink()


ONE = f"image {tiny(3).sop_instance_uid}"

SABOTAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda drive: flip_a_byte(of_image(drive, tiny(3).sop_instance_uid)), f"damaged: {ONE}"),
    "swapped files": (swap, f"swapped: {ONE}"),
    "a missing object": (lambda drive: of_image(drive, tiny(3).sop_instance_uid).unlink(), f"missing: {ONE}"),
    "an old version": (use_the_old_version, f"old version: image {encode(dx()).sop_instance_uid}"),
    "cut off": (
        lambda drive: write(
            file := of_image(drive, tiny(3).sop_instance_uid), file.read_bytes()[: file.stat().st_size // 2]
        ),
        f"truncated: {ONE}",
    ),
    "an empty file": (lambda drive: write(of_image(drive, tiny(3).sop_instance_uid), b""), f"truncated: {ONE}"),
    "a foreign image": (put_a_foreign_image, f"foreign file: {ONE}"),
    "encrypted by a virus": (
        lambda drive: write(of_image(drive, tiny(3).sop_instance_uid), b"\x8b" * 5000),
        f"foreign file: {ONE}",
    ),
    "yesterday's index": (use_yesterdays_index, "stale index: The index there is 30 hours old"),
    "no lists": (forget_in_index_and_lists, f"not listed: image {tiny(9).sop_instance_uid}"),
    "a damaged index": (
        lambda drive: write(drive / "BACKUPSC/INDEX.SQLITE", b"SQLite format 3\0" + bytes(5000)),
        "bad index: The index there cannot be used: It is damaged",
    ),
    "a missing index": (lambda drive: (drive / "BACKUPSC/INDEX.SQLITE").unlink(), "bad index: The index is missing"),
    "damaged settings": (
        lambda drive: (drive / "BACKUPSC/SETTINGS.TOML").write_text("[node\n"),
        "bad settings: The settings there cannot be used",
    ),
    "the index of another clinic": (change_the_archive_of_the_index, "other archive: The index there is another"),
}


@pytest.mark.parametrize("kind", SABOTAGE)
def test_sabotage_is_found_by_its_name(run, drive, kind):
    sabotage, told = SABOTAGE[kind]
    sabotage(drive)
    ran = run("drill", "--all")
    assert ran.code == 1
    assert told in ran.out
    assert "drive (drive): FAILED" in ran.out


def test_records_that_lead_to_another_image_are_no_proof(run, drive, home):
    """Name and digest in the index fit the file, and it is another image's."""
    with closing(sqlite3.connect(home / "index.sqlite")) as index, index:
        rows = index.execute("SELECT version_id, name, sha256 FROM copy_object ORDER BY version_id LIMIT 2").fetchall()
        (first, *_), (_, name, sha256) = rows
        index.execute("UPDATE copy_object SET name = ?, sha256 = ? WHERE version_id = ?", (name, sha256, first))
    (found,) = run("drill", "--all", "--json").json["drills"]
    assert [problem["kind"] for problem in found["problems"]] == ["swapped"]


def test_yesterdays_index_tells_what_it_lacks(run, drive):
    use_yesterdays_index(drive)
    ran = run("drill", "--all", "--json")
    (found,) = ran.json["drills"]
    assert (found["index_lacks"], found["came_back"]) == (3, 15)
    assert "lacks 3 images that the copy has" in found["problems"][0]["sentence"]


def test_the_drive_of_another_clinic(run, drive):
    marker = drive / "BACKUP-SCP.json"
    marker.write_text(marker.read_text().replace(json.loads(marker.read_text())["archive"], "0" * 32))
    ran = run("drill", "--all")
    assert ran.code == 1
    assert "other archive: The drive at" in ran.out


def test_a_drive_that_is_away_proves_nothing(run, drive):
    shutil.move(drive, drive.with_name("elsewhere"))
    ran = run("drill")
    assert ran.code == 1
    assert "drive: NOT TRIED. There is no folder" in ran.out


def test_sealed_drives_need_the_key(run, drive, tmp_path):
    """Without it the sealed bytes are compared; with another one that is told once."""
    pair, other = make_keys(), make_keys()
    sealed = tmp_path / "media" / "sealed"
    settings = tmp_path / "backup-scp.toml"
    settings.write_text(COPY.format(sealed) + f'encrypt = ["{pair.public_key}"]\n')
    run("copies", "init", DRIVE, "--same-disk")
    assert run("copies", "sync").code == 0

    without = run("drill", "--all", "--json")
    (found,) = without.json["drills"]
    assert (without.code, found["compared"], found["came_back"]) == (0, 15, 0)
    assert "the recovery key was not there" in found["unproven"][-1]

    for pair_used, code in ((pair, 0), (other, 1)):
        (tmp_path / "key").write_text(pair_used.recovery_key)
        ran = run("drill", "--all", "--key", tmp_path / "key", "--json")
        (found,) = ran.json["drills"]
        assert ran.code == code, ran.out
        kinds = {problem["kind"] for problem in found["problems"]}
        assert kinds == (set() if code == 0 else {"wrong key"})
        assert found["came_back"] == (15 if code == 0 else 0)
    victim = next(path for path in sealed.rglob("*.age") if "images" in path.parts)
    flip_a_byte(victim)
    damaged = run("drill", "--all")
    assert (damaged.code, "damaged: image" in damaged.out) == (1, True)


def test_compressed_images_and_odd_lengths_come_back(run, drive, stored):
    (compressed, _), *_ = lossless_series(1)
    stored.put(compressed, 50)
    stored.put(with_value(encode(dx(study="odd")), "StudyDescription", b"odd"), 51)
    assert run("copies", "sync").code == 0
    (found,) = run("drill", "--all", "--json").json["drills"]
    assert (found["came_back"], found["decoded"], found["unproven"]) == (17, 17, [])


def test_status_shows_the_last_drill_and_what_it_found(run, drive):
    assert "Drill of" not in run("status").out
    run("drill", "--all")
    told = run("status")
    assert (told.code, "passed. 15 of 15 images came back; everything back in" in told.out) == (0, True)
    swap(drive)
    run("drill", "--all")
    told, found = run("status"), run("status", "--json").json
    assert told.code == 1
    assert "FAILED with 2 problems, such as swapped: image" in told.out
    assert "backup-scp copies verify drive" in told.out
    assert [(one["passed"], one["problem_count"]) for one in found["drills"]] == [(False, 2)]
    run("rebuild")
    assert run("status", "--json").json["drills"] == found["drills"]
