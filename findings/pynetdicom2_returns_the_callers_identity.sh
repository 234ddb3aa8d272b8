#!/usr/bin/env bash
# A pynetdicom2 server introduces itself with the Implementation Class UID and version name of whoever calls it.
#
# One would guess: the A-ASSOCIATE-AC names the software of the acceptor (PS3.7 D.3.3.2: the UID identifies the
# acceptor's implementation), so the same server shows one identity to all callers.
# What happens (pynetdicom2 0.9.8, asked by pynetdicom 3.0.4): the server returns the User Information of the request
# as it came; only the maximum length is changed. A caller finds its own UID and version name in the answer. Two
# callers see two identities of one server. Its client side and the files that it writes name the library's own UID.
# Why an archive cares: the pair is what logs, inventories and workarounds for one maker ("is this console a ...?") go
# by. An archive that calls such a node records itself, and a rule for the own software applies to a stranger.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for environment in server client; do python3 -m venv "$work/$environment"; done
install="pip install --quiet --no-compile --disable-pip-version-check"
"$work/server/bin/python" -m $install pynetdicom2==0.9.8 pydicom==3.0.2 2>"$work/pip" &&
    "$work/client/bin/python" -m $install pynetdicom==3.0.4 pydicom==3.0.2 2>"$work/pip" ||
    { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >server.py <<'PYTHON'
import sys

from pynetdicom2.applicationentity import AE
from pynetdicom2.asceprovider import IMPLEMENTATION_UID
from pynetdicom2.sopclass import verification_scp

ae = AE("SERVER", 0).add_scp(verification_scp)
with ae:
    print(ae.server.server_address[1], IMPLEMENTATION_UID, flush=True)
    sys.stdin.read()  # until the other side closes it
PYTHON
cat >run.py <<'PYTHON'
import subprocess
import sys

from pynetdicom import AE
from pynetdicom.sop_class import Verification

server = subprocess.Popen(
    ["server/bin/python", "server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
try:
    port, own = server.stdout.readline().split()
    print("the library's own Implementation Class UID:", own)
    good = []
    for uid, name in (("2.25.111", "CONSOLE_A_1"), ("2.25.222", "ARCHIVE_B_2")):
        ae = AE("CALLER")
        ae.implementation_class_uid, ae.implementation_version_name = uid, name
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", int(port))
        status = association.send_c_echo().Status
        answer = association.acceptor
        shown = (str(answer.implementation_class_uid), answer.implementation_version_name)
        association.release()
        print(f"caller {uid} {name}: C-ECHO {status}, the server says that it is {' '.join(shown)}")
        good.append(status == 0 and shown == (uid, name) and own != uid)
finally:
    server.stdin.close()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "pynetdicom2 0.9.8"
timeout 40 client/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
