#!/usr/bin/env bash
# Orthanc gives Storage Commitment for an image whose file is gone, and for one whose pixels have changed on the disk.
#
# One would guess: an archive looks at the disk before it commits, as a comment in Orthanc's source says. Orthanc has
# the MD5 of each file in its database, so it can see a change as well as a loss.
# What happens (orthanc 1.10.1 of Debian 12, default settings; pynetdicom 3.0.4 asks): Orthanc answers from a cache in
# RAM (MaximumStorageCacheSize, 128 MB). We delete the file of one image and change one pixel in the file of another:
# Orthanc commits to both, and C-MOVE sends both as they came. After a restart the cache is empty: the lost image is
# refused (0112), but the changed one is still committed, and C-MOVE sends the changed pixel with status 0000.
# Why an archive cares: consoles delete images after the commitment, and a test that asks soon after the C-STORE sees
# the cache. Neither the commitment nor a C-MOVE that works shows that the disk has the image. Restart first, and
# compare pixels or checksums.
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
import queue
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage, StorageCommitmentPushModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

WHOLE, GONE, CHANGED = "2.25.1.1", "2.25.1.2", "2.25.1.3"
PIXELS = bytes(range(64))
reports, moved = queue.Queue(), {}


def image(uid):
    """Make an image of 8 x 8 pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    ds.Modality, ds.ConversionType, ds.PatientName, ds.PatientID = "OT", "WSD", "Test", "1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = "2.25.2", "2.25.3", uid[-1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 8, 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.add_new("PixelData", "OB", PIXELS)
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def keep_report(event):
    """Keep what a commitment report says."""
    reports.put(event.event_information)
    return 0x0000, None


def keep_pixels(event):
    """Keep the pixels of an image that Orthanc sends."""
    moved[event.request.AffectedSOPInstanceUID] = event.dataset.PixelData
    return 0x0000


console = AE("CONSOLE")
console.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
console.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
handlers = [(evt.EVT_N_EVENT_REPORT, keep_report), (evt.EVT_C_STORE, keep_pixels)]
listener = console.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
settings = {
    "StorageDirectory": "kept", "IndexDirectory": "kept", "HttpServerEnabled": False, "DicomPort": port,
    "DicomModalities": {"console": ["CONSOLE", "127.0.0.1", listener.socket.getsockname()[1]]},
}
Path("orthanc.json").write_text(json.dumps(settings))


@contextmanager
def orthanc():
    """Run Orthanc, and give an Association with it."""
    caller = AE("CONSOLE")
    for context in (SecondaryCaptureImageStorage, StorageCommitmentPushModel, Move):
        caller.add_requested_context(context, ExplicitVRLittleEndian)
    with open("log", "ab") as log:
        server = subprocess.Popen(["Orthanc", "orthanc.json"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while not (association := caller.associate("127.0.0.1", port)).is_established:
            if server.poll() is not None or time.monotonic() > until:
                sys.exit("Orthanc does not start: " + Path("log").read_text()[-300:])
            time.sleep(0.2)
        try:
            yield association
        finally:
            association.release()
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(association, transaction):
    """Ask for the commitment to all three images, then for the images."""
    request, references = Dataset(), []
    for uid in (WHOLE, GONE, CHANGED):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = SecondaryCaptureImageStorage, uid
        references.append(reference)
    request.TransactionUID, request.ReferencedSOPSequence = transaction, references
    association.send_n_action(request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    report = reports.get(timeout=30)
    assert report.TransactionUID == transaction
    said = {item.ReferencedSOPInstanceUID: "committed" for item in report.get("ReferencedSOPSequence", [])}
    for item in report.get("FailedSOPSequence", []):
        said[item.ReferencedSOPInstanceUID] = f"refused with {item.FailureReason:04X}"
    moved.clear()
    found = []
    for uid, name in ((WHOLE, "untouched"), (GONE, "file deleted"), (CHANGED, "pixel changed")):
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.SOPInstanceUID = "IMAGE", uid
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = "2.25.2", "2.25.3"
        status = [status.Status for status, _ in association.send_c_move(identifier, "CONSOLE", Move)][-1]
        sent = {PIXELS: "as it came", None: "nothing"}.get(moved.get(uid), "other pixels")
        print(f"  {name}: {said.get(uid)}; C-MOVE {status:04X}, sends {sent}")
        found.append((said.get(uid), status, sent))
    return found


with orthanc() as association:
    for uid in (WHOLE, GONE, CHANGED):
        status = association.send_c_store(image(uid)).Status
        assert status == 0, f"C-STORE answered {status:04X}"
    for path in [path for path in Path("kept").rglob("*") if path.is_file() and "index" not in path.name]:
        content = path.read_bytes()
        if GONE.encode() in content:
            path.unlink()
        elif CHANGED.encode() in content:
            path.write_bytes(content.replace(PIXELS, b"\xff" + PIXELS[1:]))
    left = b"".join(path.read_bytes() for path in Path("kept").rglob("*-*-*-*-*"))
    assert left.count(PIXELS) == 1 and left.count(b"\xff" + PIXELS[1:]) == 1, "The files are not what we think"
    print("Before a restart:")
    before = answers(association, "2.25.4.1")
with orthanc() as association:
    print("After a restart:")
    after = answers(association, "2.25.4.2")
listener.shutdown()
kept = ("committed", 0, "as it came")
lost, changed = ("refused with 0112", 0xC000, "nothing"), ("committed", 0, "other pixels")
good = (before, after) == ([kept, kept, kept], [kept, lost, changed])
sys.exit(0 if good else f"The behaviour has changed: {before}, {after}")
PYTHON
echo "orthanc $version"
timeout 120 "$work/venv/bin/python" run.py 2>err || { tail -n 3 err; exit 1; }
