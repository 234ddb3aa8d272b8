#!/usr/bin/env bash
# Orthanc's DICOMweb "rendered" leaves out the window of the image, and black and white can be the other way round.
#
# One would guess: WADO-RS /rendered (PS3.18 10.4.1.1.3) shows an image as its own attributes say: Modality LUT or
# rescale, then window or VOI LUT, when the request names no window. And two rendered pictures of one image by one
# server, by DICOMweb and by Orthanc's own REST interface, are the same.
# What happens (orthanc 1.10.1 and orthanc-dicomweb 1.7 of Debian 12, default settings): DICOMweb stretches the stored
# pixel values from the least to the most, whatever the image says. A window of 500 round 1000 changes nothing; it
# works only when the request asks for the same numbers. With a Rescale Slope of -1, or a Modality LUT that turns the
# values round, the picture is the negative of what the image says. /instances/ID/rendered of the same server applies
# window and slope, and is the negative in the second case; it does not apply the curve of a VOI LUT Sequence. Only
# Photometric Interpretation turns both.
# Why an archive cares: consoles of digital x-ray send such windows and curves. Who compares the pictures of a restored
# study with those of Orthanc, or makes previews with it, sees differences that are no damage, and judges a negative.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in orthanc=1.10.1+dfsg-2+deb12u orthanc-dicomweb=1.7+dfsg-; do
    version=$(dpkg-query --showformat '${Version}' --show "${package%%=*}" 2>/dev/null) || true
    [[ $version == "${package#*=}"* ]] || { echo "${package%%=*} of Debian 12 cannot be had here."; exit 1; }
done
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 \
    pillow==12.3.0 2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import io
import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

COLUMNS = (0, 62, 100, 160, 255)  # the stored values are 0, 992, 1600, 2560, 4080


def lookup(values, **more):
    """Make an item of a LUT sequence for the stored values 0 to 4095."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", np.asarray(values).astype("<u2").tobytes())
    item.update(more)
    return [item]


def image(number, change):
    """Make an image of a digital x-ray: a ramp from 0 to 4080."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"2.25.1.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "2.25.2", "2.25.3", "DX"
    ds.PatientName, ds.PatientID = "Test", "1"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 16, 256, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.add_new("PixelData", "OW", np.tile((np.arange(256) * 16).astype("<u2"), (16, 1)).tobytes())
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def grey(url):
    """Fetch a picture; return five of its grey values."""
    with urlopen(Request(url, headers={"Accept": "image/png"})) as answer:
        picture = np.asarray(Image.open(io.BytesIO(answer.read())).convert("L"))
    return [int(picture[8, column]) for column in COLUMNS]


steps = np.arange(4096)
curve = lookup(4095 / (1 + np.exp((2048 - steps) / 200)))
whole = {"WindowCenter": 2048, "WindowWidth": 4096}
# The last two columns: grey values by DICOMweb and by Orthanc's own interface (give or take 2).
RAMP, NEGATIVE = [0, 62, 100, 160, 255], [255, 193, 155, 95, 0]
CASES = (
    ("no window", {}, "", RAMP, RAMP),
    ("window 500 round 1000", {"WindowCenter": 1000, "WindowWidth": 500}, "", RAMP, [0, 123, 255, 255, 255]),
    ("the same, asked for", {"WindowCenter": 1000, "WindowWidth": 500}, "?window=1000,500,linear", [0, 123, 255, 255, 255], None),
    ("Rescale Slope -1", {"RescaleSlope": -1, "RescaleIntercept": 4095, "RescaleType": "US", **whole}, "", RAMP, NEGATIVE),
    ("Modality LUT turned round", {"ModalityLUTSequence": lookup(4095 - steps, ModalityLUTType="US")}, "", RAMP, RAMP),
    ("VOI LUT with an S curve", {"VOILUTSequence": curve}, "", RAMP, RAMP),
    ("MONOCHROME1", {"PhotometricInterpretation": "MONOCHROME1", **whole}, "", NEGATIVE, NEGATIVE),
)
with socket.socket() as one, socket.socket() as other:
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    http, dicom = one.getsockname()[1], other.getsockname()[1]
settings = {
    "StorageDirectory": "kept", "IndexDirectory": "kept", "HttpPort": http, "DicomPort": dicom,
    "AuthenticationEnabled": False, "Plugins": ["/usr/share/orthanc/plugins/"], "DicomWeb": {"Enable": True},
}
Path("orthanc.json").write_text(json.dumps(settings))
root = f"http://127.0.0.1:{http}"
with open("log", "wb") as log:
    server = subprocess.Popen(["Orthanc", "orthanc.json"], stdout=log, stderr=log)
good = []
try:
    until = time.monotonic() + 30
    while True:
        with suppress(OSError):
            urlopen(f"{root}/system").close()
            break
        if server.poll() is not None or time.monotonic() > until:
            sys.exit("Orthanc does not start: " + Path("log").read_text()[-300:])
        time.sleep(0.2)
    for number, (name, change, query, by_dicomweb, by_own) in enumerate(CASES):
        ds, file = image(number, change), io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        with urlopen(Request(f"{root}/instances", data=file.getvalue(), method="POST")) as answer:
            known = json.load(answer)["ID"]
        place = f"{root}/dicom-web/studies/2.25.2/series/2.25.3/instances/{ds.SOPInstanceUID}/rendered{query}"
        seen = grey(place), grey(f"{root}/instances/{known}/rendered")
        print(f"  {name:26} DICOMweb {seen[0]}  own {seen[1]}")
        for found, expected in zip(seen, (by_dicomweb, by_own), strict=True):
            good.append(expected is None or max(abs(np.subtract(found, expected))) <= 2)
finally:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "orthanc 1.10.1, orthanc-dicomweb 1.7: grey values of the stored values 0, 992, 1600, 2560, 4080"
timeout 60 "$work/venv/bin/python" run.py 2>err || { tail -n 3 err; exit 1; }
