#!/usr/bin/env bash
# A transcoder that rewrites the frames leaves the table that says where the old frames were.
#
# One would guess: a tool that decompresses an image drops its Extended Offset Table (7FE0,0001) and the lengths
# beside it (7FE0,0002), as they may stand with encapsulated pixels only; a tool that compresses it anew writes new
# ones or none.
# What happens (dcmtk 3.6.7 of Debian 12, python-gdcm 3.2.6, pydicom 3.0.2): dcmdjpls leaves both in an image that has
# become native. dcmcrle and dcmcjpeg then keep them, too: offsets and lengths of the JPEG-LS frames of an earlier file
# now stand before RLE or JPEG Lossless frames. GDCM does the same in one step. pydicom does it, too: decompress()
# leaves both, compress() (without encapsulate_ext) keeps them, and pydicom cannot read the image that it has made. All
# of them report success and no warning. pydicom believes the table; dcmtk ignores it and reads the image.
# Why an archive cares: two lossless steps, each reported as fine, make an image that pydicom and all that stands on
# it cannot read. A check of the copy with dcmtk finds nothing. Who transcodes has to drop or renew both elements.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[[ $(dcmdrle --version 2>/dev/null | head -n 1) == *v3.6.7* ]] || { echo "dcmtk 3.6.7 cannot be had here."; exit 1; }
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    pydicom==3.0.2 python-gdcm==3.2.6 numpy==2.4.6 pyjpegls==1.5.1 2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import subprocess
import sys
import warnings

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

# Four frames: the first is noise and so the largest when compressed.
frames = np.stack([np.full((64, 64), 20 * i, "u1") for i in range(4)])
frames[0] = np.random.default_rng(1).integers(0, 255, (64, 64))


def make(path):
    """Write a valid multi-frame image, JPEG-LS Lossless with an Extended Offset Table."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2", "2.25.3"
    ds.PatientID, ds.PatientName, ds.Modality, ds.InstanceNumber = "1", "Test", "OT", 1
    ds.PatientBirthDate = ds.PatientSex = ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.StudyID = ""
    ds.SeriesNumber, ds.ConversionType = 1, "WSD"
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.NumberOfFrames = 1, "MONOCHROME2", 4
    ds.PixelData = frames.tobytes()
    ds["PixelData"].VR = "OB"
    ds.compress(JPEGLSLossless, encapsulate_ext=True, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


def table(path):
    """Return the lengths of the frames that the file tells, and those that it has."""
    ds = pydicom.dcmread(path)
    told = np.frombuffer(ds.get("ExtendedOffsetTableLengths", b""), "<u8").tolist()
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        return told, "native"
    fragments = pydicom.encaps.generate_fragments(ds.PixelData)
    next(fragments)  # the Basic Offset Table
    return told, [len(fragment) for fragment in fragments]


def readable(path):
    """Tell whether pydicom reads the frames that went in."""
    try:
        return bool((pydicom.dcmread(path).pixel_array == frames).all())
    except (RuntimeError, ValueError):
        return False


def by_gdcm(source, target):
    """Transcode to RLE Lossless with GDCM."""
    reader = gdcm.ImageReader()
    reader.SetFileName(source)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.RLELossless))
    writer = gdcm.ImageWriter()
    writer.SetFileName(target)
    done = reader.Read()
    change.SetInput(reader.GetImage())
    done = done and change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    return done and writer.Write()


def by_pydicom(source, native, target):
    """Decompress with pydicom, then compress to RLE Lossless."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = pydicom.dcmread(source)
        ds.decompress(generate_instance_uid=False)
        ds.save_as(native)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(target)
    return True


def by_dcmtk(*command):
    """Run a tool of dcmtk; return whether it succeeds and says nothing."""
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0 and not done.stdout + done.stderr


make("ls.dcm")
old, has = table("ls.dcm")
print("input, JPEG-LS:                told", old, "is", has)
assert old == has and readable("ls.dcm"), "the input is valid"
good = []
for name, success, target, reads in (
    ("dcmdjpls (now native)", by_dcmtk("dcmdjpls", "ls.dcm", "native.dcm"), "native.dcm", True),
    ("dcmdjpls, dcmcrle (RLE)", by_dcmtk("dcmcrle", "native.dcm", "rle.dcm"), "rle.dcm", False),
    ("dcmdjpls, dcmcjpeg +e1 (JPEG)", by_dcmtk("dcmcjpeg", "+e1", "native.dcm", "jpeg.dcm"), "jpeg.dcm", "not tried"),
    ("GDCM (RLE)", by_gdcm("ls.dcm", "gdcm.dcm"), "gdcm.dcm", False),
    ("pydicom, both (RLE)", by_pydicom("ls.dcm", "step.dcm", "own.dcm"), "own.dcm", False),
    ("pydicom decompress (native)", True, "step.dcm", True),
    ("dcmdrle of dcmcrle's RLE", by_dcmtk("dcmdrle", "rle.dcm", "back.dcm"), "back.dcm", True),
    ("dcmdrle of pydicom's RLE", by_dcmtk("dcmdrle", "own.dcm", "own_back.dcm"), "own_back.dcm", True),
):
    told, has = table(target)
    # Only pydicom's own decoder (RLE) is asked about frames that are cut at the wrong places.
    seen = "not tried" if reads == "not tried" else readable(target)
    print(f"{name + ':':30} told {told} is {has}, success {success}, pydicom reads it: {seen}")
    good.append(success and told == old and has != old and seen == reads)
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "dcmtk 3.6.7, python-gdcm 3.2.6, pydicom 3.0.2"
timeout 40 venv/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
