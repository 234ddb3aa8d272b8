"""axe-core, which finds what keeps people with disabilities from a page: fetched once by npm, compared with its digest.

``python -m tests.axe`` fetches it.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.processes import ROOT

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
FILE = ROOT / "build" / f"axe-{VERSION}.min.js"


def fetch() -> None:
    """Download its script."""
    if FILE.is_file():
        return
    FILE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FILE.parent) as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"axe-core@{VERSION}"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        (packed,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise SystemExit(f"axe-core {VERSION} has another content than the tests were written for: {digest}")
        with tarfile.open(packed) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            whole = Path(folder) / "axe.min.js"
            whole.write_bytes(script.read())
        whole.rename(FILE)


if __name__ == "__main__":
    fetch()
