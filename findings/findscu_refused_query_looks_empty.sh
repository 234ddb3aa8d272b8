#!/usr/bin/env bash
# findscu and echoscu end with 0 and print nothing when the archive answers with a failure, unlike storescu and movescu.
#
# One would guess: tools of one suite tell a failure in one way. storescu and movescu do: a failure status gives an
# exit code other than 0 (storescu even makes it of the status: A700 gives 167, which is A7).
# What happens (dcmtk 3.6.7 of Debian 12, run against a pynetdicom 3.0.4 server): findscu ends with 0 and prints
# nothing, be the answer "no match" (0000), "out of resources" (A700), "does not match the SOP Class" (A900) or
# "unable to process" (C000). echoscu ends with 0 and prints nothing for 0122 and 0110. The status is to be seen with
# -v alone.
# Why an archive cares: a script that asks with findscu whether a study is there takes "the database is away" for
# "there is no such study", and then deletes, sends again or tells the doctor so. A monitor that runs echoscu calls a
# node healthy that says it is not. Read the status from the output of -v.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(findscu --version 2>/dev/null | head -n 1) || true
[[ $version == *v3.6.7* ]] || { echo "dcmtk 3.6.7 cannot be had here."; exit 1; }
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >dump <<'DUMP'
(0008,0016) UI =RawDataStorage
(0008,0018) UI [2.25.1]
(0010,0010) PN [Test]
(0010,0020) LO [1]
(0020,000d) UI [2.25.2]
(0020,000e) UI [2.25.3]
DUMP
dump2dcm +te dump image.dcm
cat >run.py <<'PYTHON'
import subprocess
import sys

from pynetdicom import AE, evt
from pynetdicom.sop_class import RawDataStorage, Verification
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

status = 0
ae = AE("ARCHIVE")
for context in (Verification, Find, Move, RawDataStorage):
    ae.add_supported_context(context)


def find(event):
    """Answer a C-FIND with the one status, and no match."""
    yield status, None


def move(event):
    """Answer a C-MOVE with "destination unknown"."""
    yield None, None


handlers = [
    (evt.EVT_C_ECHO, lambda _: status),
    (evt.EVT_C_STORE, lambda _: status),
    (evt.EVT_C_FIND, find),
    (evt.EVT_C_MOVE, move),
]
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
peer = ["127.0.0.1", str(server.server_address[1])]
keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]


def run(*command):
    """Return the exit code of a tool, and what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout + done.stderr


good = []
for tool, command, codes in (
    ("findscu", ["-S", *peer, *keys], (0x0000, 0xA700, 0xA900, 0xC000)),
    ("echoscu", peer, (0x0000, 0x0122, 0x0110)),
    ("storescu", [*peer, "image.dcm"], (0x0000, 0xA700, 0xA900, 0xC000)),
):
    for status in codes:
        code, text = run(tool, *command)
        told = [line for line in run(tool, "-v", *command)[1].splitlines() if "Response" in line]
        print(f"{tool} answered {status:04X}: exit code {code}, prints {text.strip()!r}; with -v {told[-1:]}")
        fails = tool == "storescu" and status
        good.append(code == (status >> 8 if fails else 0) and (fails or not text))
code, text = run("movescu", "-S", "-aem", "NOBODY", *peer, *keys[:2], "-k", "StudyInstanceUID=2.25.2")
print(f"movescu answered A801: exit code {code}, prints {text.strip()!r}")
good.append(code != 0 and text)
server.shutdown()
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "$version"
timeout 40 venv/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
