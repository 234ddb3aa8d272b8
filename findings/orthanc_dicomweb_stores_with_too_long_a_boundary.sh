#!/usr/bin/env bash
# Orthanc's DICOMweb plugin sends STOW-RS requests whose boundary is longer than MIME allows.
#
# One would guess: a program that stores over DICOMweb writes multipart/related as RFC 2046 defines it, so that every
# server that knows the standard can read it.
# What happens (orthanc-dicomweb 1.7 with orthanc 1.10.1, of Debian 12): the boundary is two UUIDs with a hyphen between
# them, 73 characters, in each request. RFC 2046 5.1.1 allows 70. A server that keeps to the limit answers 400 to all of
# them.
# Why an archive cares: "send to DICOMweb server" from Orthanc is how many clinics forward to a second archive. If that
# one refuses all of it with "malformed request", nothing in the images is wrong. A server has to take 73 characters.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(dpkg-query --showformat '${Version}' --show orthanc 2>/dev/null) || true
plugin=$(dpkg-query --showformat '${Version}' --show orthanc-dicomweb 2>/dev/null) || true
[[ $version == 1.10.1+dfsg-2+deb12u* && $plugin == 1.7+dfsg-* ]] ||
    { echo "orthanc 1.10.1 and orthanc-dicomweb 1.7 of Debian 12 cannot be had here."; exit 1; }
library=$(dpkg-query --listfiles orthanc-dicomweb | grep -m 1 'libOrthancDicomWeb\.so')
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pydicom==3.0.2 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

LONGEST = 70  # RFC 2046 5.1.1
asked = []


class Archive(BaseHTTPRequestHandler):
    """Says that each request was stored, and keeps its Content-Type and body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Read the whole request."""
        if "Content-Length" in self.headers:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        else:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        asked.append((self.headers["Content-Type"], body))
        stored = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["2.25.4"]}}]}}
        answer = json.dumps(stored).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Print nothing."""


def image():
    """Make the file of an image of 8 x 8 pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.4"
    ds.Modality, ds.ConversionType, ds.PatientName, ds.PatientID = "OT", "WSD", "Test", "1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = "2.25.2", "2.25.3", 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 8, 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.add_new("PixelData", "OB", bytes(range(64)))
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def free_port():
    """Return a port that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


archive = HTTPServer(("127.0.0.1", 0), Archive)
threading.Thread(target=archive.serve_forever, daemon=True).start()
http = free_port()
settings = {
    "StorageDirectory": "kept", "IndexDirectory": "kept", "HttpPort": http, "DicomServerEnabled": False,
    "RemoteAccessAllowed": False, "Plugins": [sys.argv[1]],
    "DicomWeb": {"Enable": True, "Servers": {"archive": {"Url": f"http://127.0.0.1:{archive.server_port}/dicom-web"}}},
}
Path("orthanc.json").write_text(json.dumps(settings))


def ask(path, body=None):
    """Return Orthanc's answer to a GET, or to a POST of a body."""
    with urlopen(Request(f"http://127.0.0.1:{http}{path}", body), timeout=20) as answer:
        return json.load(answer)


def wait_for_orthanc(server):
    """Return when Orthanc answers."""
    until = time.monotonic() + 30
    while True:
        try:
            return ask("/system")
        except (URLError, OSError):
            if server.poll() is not None or time.monotonic() > until:
                sys.exit("Orthanc does not start: " + Path("log").read_text()[-300:])
            time.sleep(0.2)


with open("log", "wb") as log:
    server = subprocess.Popen(["Orthanc", "orthanc.json"], stdout=log, stderr=log)
try:
    wait_for_orthanc(server)
    orthanc_id = ask("/instances", image())["ID"]
    for _ in range(3):
        ask("/dicom-web/servers/archive/stow", json.dumps({"Resources": [orthanc_id], "Synchronous": True}).encode())
finally:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    archive.shutdown()
lengths = []
for content_type, body in asked:
    boundary = re.search(r'boundary="?([^";]+)', content_type)[1]
    assert body.count(b"--" + boundary.encode()) == 2, "the boundary of the header is not that of the body"
    lengths.append(len(boundary))
print(f"STOW requests: {len(asked)}; characters of their boundaries: {lengths}; RFC 2046 allows {LONGEST}")
sys.exit(0 if lengths == [73] * 3 else f"The behaviour has changed: {lengths}")
PYTHON
echo "orthanc $version, orthanc-dicomweb $plugin"
timeout 60 "$work/venv/bin/python" run.py "$library" 2>err || { tail -n 3 err; exit 1; }
