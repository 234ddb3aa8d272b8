#!/usr/bin/env bash
# pyrage encrypts a small file to a full disk, writes nothing, and raises nothing.
#
# One would guess: encrypt_file and encrypt_io raise when the disk is full. They do for most files, so a test with one
# large file shows that they do. And encryption and decryption of one library treat a failed write alike.
# What happens (pyrage 1.4.0): output of less than 8 KiB is kept back in a buffer, and when the write of this rest fails
# at the end, both functions return as usual. A file of up to about 7.6 KiB becomes an empty one. A longer file loses
# its end, if less than 8 KiB of it follow the last full piece of 64 KiB, as in one of eight lengths. decrypt_file and
# decrypt_io raise in each case. It is the same with a file that is open without Python's buffer, so there is no later
# close() that could raise instead. A limit on the size of files stands for the full disk here.
# Why an archive cares: many DICOM files are small (reports, presentation states, key objects). On a full disk or over a
# quota the encrypted copy of such a file is empty, and the program counts it as made. age's checksums do notice it, but
# only when somebody decrypts. Keep the error in the object that is written to, or decrypt the copy, before it counts.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check pyrage==1.4.0 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
cat >run.py <<'PYTHON'
import resource
import sys
from pathlib import Path

import pyrage
from pyrage.x25519 import Identity

PIECE, SEALED_PIECE = 65536, 65552  # age encrypts pieces of 64 KiB, each with 16 bytes of checksum
identity = Identity.generate()
recipients = [identity.to_public()]
opened, sealed = Path("opened"), Path("sealed")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)


def error_of(function, source, target, keys, room):
    """Return the error of a function when no file may grow beyond ``room`` bytes, or an empty text."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
    try:
        if function.__name__.endswith("_file"):
            function(str(source), str(target), keys)
        else:
            with source.open("rb") as reading, target.open("wb", buffering=0) as writing:
                function(reading, writing, keys)
    except (OSError, pyrage.EncryptError) as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    return ""


def opens():
    """Return whether the encrypted file can be decrypted."""
    try:
        pyrage.decrypt(sealed.read_bytes(), [identity])
    except pyrage.DecryptError:
        return False
    return True


good = []
# The room: none for a file of one piece; otherwise that of the whole pieces, the header (300 bytes or so) and a little.
for size, room, raises in (
    (1000, 0, False),
    (10 * PIECE + 1000, 10 * SEALED_PIECE + 600, False),
    (9000, 0, True),
    (10 * PIECE + 9000, 10 * SEALED_PIECE + 600, True),
):
    opened.write_bytes(b"a" * size)
    for function in (pyrage.encrypt_file, pyrage.encrypt_io):
        sealed.unlink(missing_ok=True)
        error = error_of(function, opened, sealed, recipients, room)
        print(f"{function.__name__:12} of {size:6} bytes, room for {room:6}: {error or 'no error'}; ", end="")
        print(f"{sealed.stat().st_size} bytes written, {'can' if opens() else 'cannot'} be decrypted")
        good.append(bool(error) == raises and not opens())
for size, room in ((1000, 0), (10 * PIECE + 1000, 10 * PIECE + 600)):
    sealed.write_bytes(pyrage.encrypt(b"a" * size, recipients))
    for function in (pyrage.decrypt_file, pyrage.decrypt_io):
        error = error_of(function, sealed, opened, [identity], room)
        print(f"{function.__name__:12} of {size:6} bytes, room for {room:6}: {error or 'no error'}")
        good.append(bool(error))
sys.exit(0 if all(good) else "The behaviour has changed.")
PYTHON
echo "pyrage 1.4.0"
timeout 40 venv/bin/python run.py 2>err || { tail -n 3 err; exit 1; }
