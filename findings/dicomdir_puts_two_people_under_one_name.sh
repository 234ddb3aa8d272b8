#!/usr/bin/env bash
# Writers of a DICOMDIR put two people who have the same Patient ID under the name of one of them.
#
# One would guess: two people whose Patient IDs were given by two clinics (Issuer of Patient ID N and S) get two PATIENT
# records, or the writer refuses the second one. The names differ, and so do the birth dates.
# What happens (pydicom 3.0.2; dcmtk 3.6.7 of Debian 12): both writers compare the Patient ID alone. There is one PATIENT
# record, with the name of whoever comes first, and the studies of both below it; in the other order it has the other
# name. pydicom's FileSet.add() and write() say nothing, not even with warnings as errors, and what they return answers
# for the second person's image with the first person's name; find() by the second person's name finds nothing.
# dcmmkdir prints a warning, writes the wrong record, and ends with 0. The images are whole: their own names are right.
# Why an archive cares: an archive of several clinics has the same Patient ID twice, and viewers list a CD or a drive by
# its DICOMDIR. They show one person's images under the name of another. Who writes a medium from such an archive has
# to write the PATIENT records so that they differ.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[[ $(dcmmkdir --version 2>/dev/null | head -n 1) == *v3.6.7* ]] || { echo "dcmtk 3.6.7 cannot be had here."; exit 1; }
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pydicom==3.0.2 \
    2>"$work/pip" || { echo "The pinned package cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import subprocess
import sys
import warnings
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian

warnings.simplefilter("error")
PEOPLE = {"A": ("North^Anna", "N", "19500101"), "B": ("South^Bert", "S", "19900202")}


def image(letter):
    """Make an image of one of the two people, who have the same Patient ID."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"2.25.1.{ord(letter)}"
    ds.PatientName, ds.IssuerOfPatientID, ds.PatientBirthDate = PEOPLE[letter]
    ds.PatientID, ds.PatientSex = "1", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.2.{ord(letter)}", f"2.25.3.{ord(letter)}"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "120000", letter, ""
    ds.StudyDescription, ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.ConversionType = "", "OT", 1, 1, "WSD"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.add_new("PixelData", "OB", bytes(64))
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def listed(dicomdir):
    """Return the names in the PATIENT records, and the number of STUDY records."""
    records = pydicom.dcmread(dicomdir).DirectoryRecordSequence
    names = [str(record.PatientName) for record in records if record.DirectoryRecordType == "PATIENT"]
    return names, sum(record.DirectoryRecordType == "STUDY" for record in records)


def by_pydicom(order):
    """Write a medium with pydicom; return its list, and what it tells of the second person."""
    medium = FileSet()
    for letter in order:
        medium.add(image(letter))
    medium.write(order)
    read = FileSet(Path(order, "DICOMDIR"))
    second = PEOPLE[order[1]][0]
    instance = next(instance for instance in read if str(instance.load().PatientName) == second)
    return *listed(Path(order, "DICOMDIR")), str(instance.PatientName), len(read.find(PatientName=second))


def by_dcmtk(order):
    """Write a medium with dcmmkdir; return its list, the exit code, and whether it warned."""
    folder = Path("dcmtk" + order)
    folder.mkdir()
    for letter in order:
        image(letter).save_as(folder / letter, enforce_file_format=True)
    done = subprocess.run(["dcmmkdir", *order], cwd=folder, capture_output=True, text=True, check=False)
    return *listed(folder / "DICOMDIR"), done.returncode, "inconsistent" in done.stderr


good = []
for order in ("AB", "BA"):
    first = PEOPLE[order[0]][0]
    seen = by_pydicom(order)
    print(f"pydicom, {order}: PATIENT {seen[0]} with {seen[1]} studies; the second person's image is called {seen[2]},", end="")
    print(f" find() by the own name finds {seen[3]}")
    good.append(seen == ([first], 2, first, 0))
    seen = by_dcmtk(order)
    print(f"dcmmkdir, {order}: PATIENT {seen[0]} with {seen[1]} studies; ends with {seen[2]}, warns: {seen[3]}")
    good.append(seen == ([first], 2, 0, True))
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "pydicom 3.0.2, dcmtk 3.6.7"
timeout 60 "$work/venv/bin/python" run.py 2>err || { tail -n 3 err; exit 1; }
