#!/usr/bin/env bash
# Orthanc sends a Data Set that differs from the stored one, and stores another one by C-STORE than by HTTP.
#
# One would guess: an archive keeps the Data Set of an image as it came. Whoever sends it and gets it back in the same
# Transfer Syntax (Explicit VR Little Endian) has the same bytes, whichever way it went.
# What happens (orthanc 1.10.1 of Debian 12): with HTTP in and out, each byte is the same. But C-STORE writes sequences
# of undefined length anew, with a defined length, before the file is stored. C-MOVE does the same, and leaves out Data
# Set Trailing Padding (FFFC,FFFC), which the stored file still has. So an image with both has three forms: as it came,
# as Orthanc keeps it, and as Orthanc sends it. All three are valid, and all answers are "success".
# Why an archive cares: after a migration one wants to compare checksums of both sides. Here the Data Set that C-MOVE
# gives differs from the one at the source although nothing is wrong. An image that reaches an archive twice, through
# Orthanc and directly, looks like two versions. Take the files over HTTP for that, or compare elements.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(dpkg-query --showformat '${Version}' --show orthanc 2>/dev/null) || true
[[ $version == 1.10.1+dfsg-2+deb12u* ]] || { echo "orthanc 1.10.1 of Debian 12 cannot be had here."; exit 1; }
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import json
import socket
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

_config.STORE_SEND_CHUNKED_DATASET = True  # pynetdicom sends the bytes of the file, and does not encode them anew
VARIANTS = ("neither", "undefined length", "trailing padding")
WAYS = ("HTTP", "C-STORE")
arrived = {}


def data_set(file):
    """Return what follows the File Meta Information."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def image(uid, variant):
    """Make the file of an image of 8 x 8 pixels with a sequence."""
    ds, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SecondaryCaptureImageStorage, "2.25.9"
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    ds.Modality, ds.ConversionType, ds.PatientName, ds.PatientID = "OT", "WSD", "Test", "1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = "2.25.2", "2.25.3", uid[-1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 8, 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.ReferencedImageSequence = [item]
    if variant == "undefined length":
        ds["ReferencedImageSequence"].is_undefined_length = item.is_undefined_length_sequence_item = True
    ds.add_new("PixelData", "OB", bytes(range(64)))
    if variant == "trailing padding":
        ds.add_new("DataSetTrailingPadding", "OB", bytes(16))
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def keep(event):
    """Keep the Data Set as it came over the wire."""
    arrived[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
    return 0x0000


def free_port():
    """Return a port that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


node = AE("NODE")
node.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
node.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
node.add_requested_context(Move)
listener = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
own = listener.socket.getsockname()[1]
dicom, http = free_port(), free_port()
settings = {
    "StorageDirectory": "kept", "IndexDirectory": "kept", "HttpPort": http, "DicomPort": dicom,
    "RemoteAccessAllowed": False, "DicomModalities": {"node": ["NODE", "127.0.0.1", own]},
}
Path("orthanc.json").write_text(json.dumps(settings))


def ask(path, body=None):
    """Return Orthanc's answer to a GET, or to a POST of a body."""
    with urlopen(Request(f"http://127.0.0.1:{http}{path}", body), timeout=20) as answer:
        return answer.read()


def run(association, direct):
    """Bring each variant in over both ways, and compare what is kept and what is sent."""
    made, found = {}, {}
    for way in WAYS:
        for variant in VARIANTS:
            uid = f"2.25.1.{len(made) + 1}"
            file = image(uid, variant)
            made[uid] = way, variant, data_set(file)
            Path("image.dcm").write_bytes(file)
            # Without Orthanc between them, both sides must have the same bytes.
            direct.send_c_store(Path("image.dcm"))
            assert arrived.pop(uid) == data_set(file), "pynetdicom changes the bytes"
            if way == "HTTP":
                ask("/instances", file)
            else:
                status = association.send_c_store(Path("image.dcm")).Status
                assert status == 0, f"C-STORE answered {status:04X}"
    study = Dataset()
    study.QueryRetrieveLevel, study.StudyInstanceUID = "STUDY", "2.25.2"
    status = [status.Status for status, _ in association.send_c_move(study, "NODE", Move)][-1]
    assert status == 0, f"C-MOVE answered {status:04X}"
    print("Bytes of the Data Set:")
    for uid, (way, variant, came) in made.items():
        (entry,) = json.loads(ask("/tools/lookup", uid.encode()))
        kept, sent = data_set(ask(entry["Path"] + "/file")), arrived[uid]
        print(f"  in by {way}, {variant}: came {len(came)}, kept {len(kept)}, sent by C-MOVE {len(sent)}")
        found[way, variant] = kept == came, sent == came
    return found


with open("log", "wb") as log:
    server = subprocess.Popen(["Orthanc", "orthanc.json"], stdout=log, stderr=log)
try:
    until = time.monotonic() + 30
    while not (association := node.associate("127.0.0.1", dicom)).is_established:
        if server.poll() is not None or time.monotonic() > until:
            sys.exit("Orthanc does not start: " + Path("log").read_text()[-300:])
        time.sleep(0.2)
    direct = node.associate("127.0.0.1", own)
    try:
        found = run(association, direct)
    finally:
        direct.release()
        association.release()
finally:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    listener.shutdown()
expected = {(way, variant): (True, variant == "neither") for way in WAYS for variant in VARIANTS}
expected["C-STORE", "undefined length"] = False, False
sys.exit(0 if found == expected else f"The behaviour has changed: {found}")
PYTHON
echo "orthanc $version"
timeout 60 "$work/venv/bin/python" run.py 2>err || { tail -n 3 err; exit 1; }
