"""The viewer OHIF as its makers publish it: fetched once by npm, compared with its digest, served to a browser.

``python -m tests.ohif`` fetches it, and dicomweb-client for JavaScript, which a page can use alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.processes import LOOPBACK, ROOT

VERSION = "3.13.2"
SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
FILES = ROOT / "build" / f"ohif-{VERSION}"
CLIENT_VERSION = "0.11.3"
CLIENT_SHA512 = "7t1Rc/01fyFnKlQeNPW9Pvxvmsx8R/BgB2n7BxTuWirRFwlTC5upEeLeS3vO72P+n6/SQZ3+5ij0bgaWDHQG/A=="
CLIENT = ROOT / "build" / f"dicomweb-client-{CLIENT_VERSION}"

_DOCUMENTED = "http://127.0.0.1:8042/dicom-web"
_NO_DIALOG = 'window.config.investigationalUseDialog = { option: "never" };'
_NOT_NEEDED = ("package/dist/ort/",)  # 136 MB for segmentation by a neural network


def fetch() -> None:
    """Download the static files; they are whole as soon as their folder is there."""
    _fetch(f"@ohif/app@{VERSION}", SHA512, "package/dist/", FILES)
    _fetch(f"dicomweb-client@{CLIENT_VERSION}", CLIENT_SHA512, "package/build/", CLIENT)


def _fetch(package: str, sha512: str, below: str, files: Path) -> None:
    if files.is_dir():
        return
    files.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=files.parent) as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (packed,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != sha512:
            raise SystemExit(f"{package} has another content than the tests were written for: {digest}")

        # Debian 12's Python 3.11.2 has no filters yet; what we unpack has the content that the digest names.
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(packed) as archive:
            wanted = [member for member in archive if _is_needed(member.name, below)]
            archive.extractall(folder, wanted, **safely)
        (Path(folder) / below).rename(files)


def _is_needed(name: str, below: str) -> bool:
    return name.startswith(below) and not name.startswith(_NOT_NEEDED) and not name.endswith(".map")


class _Files(SimpleHTTPRequestHandler):
    """Serves OHIF's files, our settings of it, and its page for every address that is no file."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            body = self.server.settings.encode()  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if not Path(self.translate_path(path)).is_file():
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


class OhifServer(ThreadingHTTPServer):
    """Serves OHIF at a port that the system chooses.

    Attributes
    ----------
    origin
        Where its page is, for `[web] cors`.
    settings
        Its `app-config.js`; `show` writes it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), lambda *arguments: _Files(*arguments, directory=str(FILES)))
        self.origin = f"http://{LOOPBACK}:{self.server_port}"
        self.settings = ""

    def show(self, dicomweb: str) -> None:
        """Let it show the studies of a DICOMweb server, with the settings that docs/web.md shows."""
        self.settings = documented_settings().replace(_DOCUMENTED, dicomweb) + _NO_DIALOG

    @contextlib.contextmanager
    def running(self) -> Iterator[OhifServer]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


def documented_settings() -> str:
    """Return the `app-config.js` that docs/web.md shows."""
    return (ROOT / "docs" / "web.md").read_text().partition("```js\n")[2].partition("```")[0]


if __name__ == "__main__":
    fetch()
