#!/usr/bin/env bash
# With pynetdicom installed, "storescu" and "movescu" may be other programs, which end with 0 when the archive refuses.
#
# One would guess: pynetdicom is a library. A script that sends with dcmtk's storescu and looks at its exit code does the
# same inside an activated Python environment as outside of it.
# What happens (pynetdicom 3.0.4; dcmtk 3.6.7 of Debian 12): pynetdicom installs echoscu, findscu, getscu, movescu,
# storescu, echoscp and storescp, and an activated environment comes first in PATH. The options look alike, so that a
# plain call works with both. But when the archive answers a C-STORE with A700 (out of resources), dcmtk's storescu ends
# with 167, pynetdicom's with 0 and without a word. When it answers a C-MOVE with A801, dcmtk's movescu ends with 69,
# pynetdicom's with 0.
# Why an archive cares: a script or a cron job that sends a study to the backup and then deletes it at the source takes
# a full disk for a success, from the day on which somebody activates an environment. Call dcmtk's programs by their
# path, or ask for --version first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dcmtk=$(dirname "$(type -P dump2dcm || echo /nowhere/dump2dcm)")
version=$("$dcmtk/storescu" --version 2>/dev/null | head -n 1) || true
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
import os
import subprocess
import sys

from pynetdicom import AE, evt
from pynetdicom.sop_class import RawDataStorage
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

dcmtk, environment = sys.argv[1], os.path.dirname(sys.executable)
ae = AE("ARCHIVE")
ae.add_supported_context(RawDataStorage)
ae.add_supported_context(Move)


def move(event):
    """Answer a C-MOVE with "destination unknown"."""
    yield None, None


handlers = [(evt.EVT_C_STORE, lambda _: 0xA700), (evt.EVT_C_MOVE, move)]
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
port = str(server.socket.getsockname()[1])
calls = {
    "storescu": ["127.0.0.1", port, "image.dcm"],
    "movescu": ["-S", "-aem", "NOBODY", "-k", "0008,0052=STUDY", "-k", "0020,000d=2.25.2", "127.0.0.1", port],
}
found = {}
for name, arguments in calls.items():
    # As a shell finds them: without and with the environment activated.
    for path in (dcmtk, f"{environment}:{dcmtk}"):
        env = {**os.environ, "PATH": path}
        done = subprocess.run(["/usr/bin/env", name, *arguments], env=env, capture_output=True, text=True, timeout=30)
        found[name, path != dcmtk] = done.returncode, done.stdout + done.stderr
server.shutdown()
for (name, activated), (code, said) in found.items():
    where = "in the environment" if activated else "outside of it"
    print(f"{name}, {where}: ends with {code}; {len(said.splitlines())} lines")
codes = {key: code for key, (code, _) in found.items()}
assert codes == {
    ("storescu", False): 167, ("storescu", True): 0, ("movescu", False): 69, ("movescu", True): 0
}, f"The behaviour has changed: {codes}"
assert found["storescu", True][1] == "", "The behaviour has changed: pynetdicom's storescu tells of the refusal"
PYTHON
"$work/venv/bin/python" run.py "$dcmtk"
