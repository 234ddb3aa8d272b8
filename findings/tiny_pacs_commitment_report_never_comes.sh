#!/usr/bin/env bash
# tiny-pacs accepts a Storage Commitment request, and can never send the report that it has promised.
#
# One would guess: a PACS that answers the request (N-ACTION) with 0000 opens an Association to the requestor
# afterwards and sends the N-EVENT-REPORT: so says the documentation of the service in the library that it uses. When
# it fails, it is the network or a wrong address.
# What happens (tiny-pacs 0.4.1 with pynetdicom2 0.9.8, pynetdicom 3.0.4 asks): the image is stored with 0000, the
# request is answered with 0000, tiny-pacs connects to the requestor, and not one byte comes. While it builds its own
# A-ASSOCIATE-RQ it proposes so many SOP Classes that the Presentation Context IDs (odd, so 128 at most) pass 255,
# which do not fit in their byte: "struct.error: ubyte format requires 0 <= number <= 255". Only its log shows it.
# Why an archive cares: who waits for the report before it deletes or says "safe" waits for ever, so a limit of time
# and a plain "not reported in time" are needed even after a 0000. And who builds on pynetdicom2 as a requestor has to
# count the SOP Classes by hand: the library takes more than an Association can carry, and fails only when it
# connects.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for environment in server client; do python3 -m venv "$work/$environment"; done
install="pip install --quiet --no-compile --disable-pip-version-check"
"$work/server/bin/python" -m $install tiny-pacs==0.4.1 pynetdicom2==0.9.8 2>"$work/pip" &&
    "$work/client/bin/python" -m $install pynetdicom==3.0.4 pydicom==3.0.2 2>"$work/pip" ||
    { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import pathlib
import socket
import subprocess
import sys
import threading
import time

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import RawDataStorage, StorageCommitmentPushModel, Verification

connected, sent, reported = threading.Event(), threading.Event(), threading.Event()


def report(event):
    """Take the N-EVENT-REPORT."""
    reported.set()
    return 0x0000, None


own = AE("CONSOLE")
own.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
handlers = [
    (evt.EVT_CONN_OPEN, lambda _: connected.set()),
    (evt.EVT_DATA_RECV, lambda _: sent.set()),
    (evt.EVT_N_EVENT_REPORT, report),
]
listener = own.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
pathlib.Path("pacs.yaml").write_text(
    f"""
ae: {{ae_title: [TINY_PACS], port: {port}, dump_ds: false}}
components:
  Devices:
    'on': true
    devices:
      CONSOLE: {{aet: CONSOLE, address: 127.0.0.1, port: {listener.server_address[1]}}}
"""
)

image = Dataset()
image.SOPClassUID, image.SOPInstanceUID = RawDataStorage, "2.25.1"
image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.2", "2.25.3"
image.PatientName, image.PatientID, image.Modality, image.SeriesNumber, image.InstanceNumber = "Test", "1", "OT", 1, 1
image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200101", "100000", "1", "1"
image.PatientBirthDate = image.PatientSex = image.ReferringPhysicianName = ""
image.file_meta = FileMetaDataset()
image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

request = Dataset()
request.TransactionUID = "2.25.4"
item = Dataset()
item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = RawDataStorage, "2.25.1"
request.ReferencedSOPSequence = [item]


def associate():
    """Open an Association, once the server listens."""
    asking = AE("CONSOLE")
    for context in (Verification, RawDataStorage, StorageCommitmentPushModel):
        asking.add_requested_context(context, ImplicitVRLittleEndian)
    for _ in range(100):
        association = asking.associate("127.0.0.1", port, ae_title="TINY_PACS")
        if association.is_established:
            return association
        time.sleep(0.1)
    sys.exit("tiny-pacs did not start.")


with open("log", "w") as log:
    command = ["timeout", "45", "server/bin/tiny-pacs", "run", "-c", "pacs.yaml"]
    server = subprocess.Popen(command, stdout=log, stderr=log)
try:
    association = associate()
    stored = association.send_c_store(image).get("Status")
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    asked = status.get("Status")
    association.release()
    came = sent.wait(8) or reported.is_set()
finally:
    server.terminate()
    server.wait(10)
    listener.shutdown()
errors = [line.strip() for line in pathlib.Path("log").read_text().splitlines() if line.startswith("struct.error")]
print(f"C-STORE answered {stored}, N-ACTION answered {asked} (0 is success)")
print(f"connection to the requestor: {connected.is_set()}; a byte on it within 8 s: {came}; log: {errors[:1]}")
good = (stored, asked, connected.is_set(), came) == (0, 0, True, False) and errors
sys.exit(0 if good else "The behaviour has changed.")
PYTHON
echo "tiny-pacs 0.4.1, pynetdicom2 0.9.8"
timeout 40 client/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
