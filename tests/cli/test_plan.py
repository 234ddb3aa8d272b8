"""`plan`: the clinic's own page for the wall, from its settings, copies and drills."""

from __future__ import annotations

import re
import sys

import pytest
from pypdf import PdfReader

from backup_scp.copies.cloud.sealing import make_keys
from tests.cli.test_copies import images
from tests.cli.test_drill import drive, swap

__all__ = ["drive"]

CLAUSES = [f"164.308(a)(7)(ii)({letter})" for letter in "ABCDE"]


@pytest.fixture
def settings(drive, tmp_path):
    """Return a function that adds settings to those of the drive."""
    file = tmp_path / "backup-scp.toml"
    before = file.read_text()
    return lambda more: file.write_text(before + more)


def duties(run) -> dict[str, dict]:
    return {duty["clause"][-2]: duty for duty in run("plan", "--json").json["duties"]}


def test_without_a_copy_it_says_what_that_means(run, stored):
    told = run("plan")
    assert told.code == 0
    assert "There is NO further copy. If the computer is lost, all images are lost." in told.out
    assert "DISASTER PLAN FOR THE X-RAY IMAGES OF ____" in told.out
    assert "There is no further copy: add a [[copy]]" in "".join(duties(run)["A"]["missing"])
    assert [clause for clause in CLAUSES if clause in told.out] == CLAUSES


def test_it_says_what_to_type_for_each_copy_in_the_order_to_try_them(run, drive, settings):
    public = make_keys().public_key
    settings(
        '\n[[copy]]\nname = "pacs"\nurl = "dicom://OTHER@pacs.example:104"\n'
        '[[copy]]\nname = "cloud"\nurl = "s3://bucket/x-rays"\nendpoint = "https://s3.example"\nregion = "eu"\n'
        f'encrypt = ["{public}"]\n'
        '[[copy]]\nname = "box"\nurl = "rclone:box:x-rays"\n'
        '[[copy]]\nname = "drives"\nurl = "file:///media/*/x rays"\n'
    )
    told = run("plan").out
    access = "--endpoint https://s3.example --region eu --access-key ID --secret-key-file FILE"
    typed = re.findall(r"type: +(.+)", told)
    assert typed == [
        f"backup-scp recover {drive}",
        "backup-scp recover '/media/DRIVE/x rays'",
        "backup-scp recover rclone:box:x-rays --rclone-config FILE",
        f"backup-scp recover s3://bucket/x-rays {access} --key FILE",
        "backup-scp recover OTHER@pacs.example:104",
    ]
    assert "the recovery key, on paper in its envelope" in " ".join(told.split())
    assert "It was never reached" in told
    assert "Who has the recovery key is not written down" in " ".join(told.split())


def test_it_says_how_old_and_how_quick_each_copy_is(run, drive):
    before = run("plan")
    assert "drive: no drill yet: backup-scp drill drive" in before.out
    assert "Not known: no drill has measured it" in before.out
    run("drill", "--all")
    after = " ".join(run("plan").out.split())
    assert re.search(r"has: +drive drive: 15 images, .* kB, everything until 2", after)
    assert re.search(r"drill: +.*: 15 images came back, byte for byte; everything takes about", after)
    assert re.search(r"About \d+ s from drive, as the last drill measured it", after)
    assert duties(run)["B"]["fulfilled"][-1].startswith("A drill has proved that images come back")
    swap(drive)
    run("drill", "--all")
    assert "FAILED with 2 problems" in run("plan").out


def test_people_are_from_the_settings(run, drive, settings):
    settings(
        '\n[plan]\nclinic = "Dental Clinic Łódź"\ncontacts = ["Dr. Doe: 555 0100", "IT: 555 0101"]\n'
        'key_holder = "Dr. Doe, in the safe"\nspare_machine = "the laptop in the office"\n'
    )
    told = run("plan").out
    for said in ("DENTAL CLINIC ŁÓDŹ", "Dr. Doe: 555 0100", "IT: 555 0101", "Dr. Doe, in the safe", "Use: the laptop"):
        assert said in told
    assert "____" in told  # what only people can know
    assert "not written down" not in told


def test_it_names_no_patient_and_fits_the_wall(run, drive):
    assert images(drive)
    told = run("plan").out
    assert "FAMILY" not in told.upper()
    assert max(map(len, (line for line in told.splitlines() if "type:" not in line))) <= 100


def test_switched_off_drills_are_told(run, drive, settings):
    assert "The node tries 50 images of each copy every 30 days" in duties(run)["D"]["fulfilled"][0]
    settings("\n[drill]\nevery_days = 0\n")
    assert "The node tries no copy by itself" in duties(run)["D"]["missing"][0]


@pytest.mark.parametrize(("paper", "size"), [("a4", (595, 842)), ("letter", (612, 792))])
def test_the_pdf_is_one_sheet_with_everything_that_is_printed(run, drive, settings, tmp_path, paper, size):
    settings('\n[plan]\nclinic = "Клиника <Müller>"\n' + "".join(
        f'[[copy]]\nname = "pacs {number}"\nurl = "dicom://OTHER{number}@pacs.example:104"\n' for number in range(4)
    ))  # fmt: skip
    file = tmp_path / "plan.pdf"
    told = run("plan", "--pdf", str(file), "--paper", paper)
    assert (told.code, told.out) == (0, f"The plan is {file}: print it, and hang it up\n")
    (sheet,) = PdfReader(file).pages
    assert (round(sheet.mediabox.width), round(sheet.mediabox.height)) == size
    there = "".join(sheet.extract_text().split())
    printed = [line for line in run("plan").out.splitlines() if not line.startswith(("-", "Made"))]
    assert [word for word in " ".join(printed).split() if word not in there] == []


def test_a_plan_that_is_there_is_not_replaced(run, drive, tmp_path):
    for name in ("plan.pdf", "plan-2.pdf"):
        run("plan", "--pdf", str(tmp_path / "plan.pdf"))
        assert (tmp_path / name).read_bytes().startswith(b"%PDF-")
    assert run("plan", "--pdf", str(tmp_path / "plan.pdf"), "--json").json["ae_title"]


def test_without_the_library_for_pdf_it_says_what_to_install(run, drive, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "backup_scp.receipts.pdf_page", raising=False)
    monkeypatch.setitem(sys.modules, "reportlab.lib", None)
    told = run("plan", "--pdf", str(tmp_path / "plan.pdf"))
    assert told.code == 1
    assert "pip install 'backup-scp[receipts]'" in told.err
