"""The texts on a drive for whoever finds it: README.TXT, and LIST.TXT of each month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from backup_scp.copies.drive.drive_names import NO_DATE
from backup_scp.dicom.file_set import Entry, Patient, Study

README = "README.TXT"

_README = """\
THIS DRIVE HOLDS X-RAYS OF PATIENTS
{label}
The images are medical records: they are confidential.  If you have found this drive, please give it back to the
clinic, or to the police.  Do not look for names, and do not copy anything.

WHAT IS HERE
A program named backup-scp keeps these copies.  Each image is a plain DICOM file, exactly as the clinic received it.

    2026/11/DOE_JOHN/15_7KQ2M/CT_4F0ZA/0012_9XW
    year/month of the study/patient/day and study/modality and series/number of the image

Where several clinics share the program, the folder of a patient ends in two letters or digits of the clinic, as in
DOE_J_9F: one name and Patient ID in two clinics may be two people.
{no_date}/ has images without a valid date, by the month in which they were received.
LIST.TXT in the folder of each month says in full which folder holds which patient and study.  To find a patient, search
in these files for the name or the Patient ID.

HOW TO LOOK AT IMAGES
Any DICOM viewer can do it: let it open the file DICOMDIR in the folder of a month (or of a patient, where a month has
very many images), or drag a folder onto it.  A few images are in no DICOMDIR, because it cannot describe them: LIST.TXT
marks their studies with *.  Images are compressed as the clinic received them; an old viewer may not know each kind.

HOW TO CHECK THE DRIVE
On Linux, in the folder of this file (macOS: shasum -a 256 in place of sha256sum):

    cat */*/SHA256*.TXT | sha256sum --check --quiet

It prints nothing when every file is intact, and otherwise the names of those that are damaged or missing.

HOW TO GET EVERYTHING BACK
With backup-scp on a new computer:   backup-scp import FOLDER-OF-THIS-FILE
With any other PACS:                 let it import the folders of the years; it needs nothing else from here.
The folder BACKUPSC holds a copy of the database (INDEX.SQLITE) and of the settings; nothing else needs it.

Please do not change, rename or delete anything here by hand.
"""


def readme(label: str) -> bytes:
    """Return README.TXT, in ASCII with line ends that every editor shows."""
    text = _README.format(label=f"Drive: {label}\n" if label else "", no_date=NO_DATE)
    return text.encode("ascii", "replace").replace(b"\n", b"\r\n")


@dataclass(slots=True)
class _StudyLine:
    """What a line of LIST.TXT says of one study in one folder."""

    study: Study
    images: int = 0
    without_record: int = 0
    modalities: set[str] = field(default_factory=set)


def list_text(month: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield LIST.TXT: patients and studies of a month, each with its folder."""
    studies: dict[tuple[Patient, str, str, str], _StudyLine] = {}
    for entry in entries:
        folder = "/".join(entry.path.split("/")[2:4])
        key = (entry.patient, folder, entry.study.uid, entry.study.date)
        line = studies.setdefault(key, _StudyLine(study=entry.study))
        line.images += 1
        line.without_record += not entry.image.record
        line.modalities.add(entry.series.modality or "?")
    yield _line(f"{month}: patients and studies.  * marks studies with images that no DICOMDIR names.")
    yield _line("The first column is the folder below this one.")
    before: Patient | None = None
    for (patient, folder, *_), line in sorted(studies.items(), key=lambda item: item[0]):
        if patient != before:
            who = f"{_name(patient.name)}   Patient ID {patient.patient_id or '(none)'}"
            who += f" of clinic {patient.site}" if patient.site else ""
            yield _line("")
            yield _line(f"{who}   born {patient.birth_date or '(unknown)'}   {patient.sex}".rstrip())
            before = patient
        study = line.study
        what = f"{study.date or '(no date)':10} {'/'.join(sorted(line.modalities)):8} {line.images:6} images"
        mark = "*" if line.without_record else " "
        yield _line(f"  {folder:18}{mark} {what}  {study.description}  {study.accession_number}".rstrip())


def _name(name: str) -> str:
    return name.replace("^", ", ", 1).replace("^", " ").strip() if name else "(no name)"


def _line(text: str) -> bytes:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return f"{printable}\r\n".encode("utf-8", "replace")
