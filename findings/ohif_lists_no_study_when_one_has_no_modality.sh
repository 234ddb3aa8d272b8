#!/usr/bin/env bash
# OHIF shows an empty study list when one study of the server has an empty Modalities in Study.
#
# One would guess: a server answers QIDO-RS as PS3.18 Table 10.6.3-3 says. Modalities in Study is a required attribute,
# and of a study without a Modality it is there without a value. A viewer lists the study without a modality.
# What happens (@ohif/app 3.13.2): the page fails over the missing Value, and shows no study at all, also none of the
# others. Without the attribute the study is listed, and so are the others.
# Why an archive cares: one old file without a Modality, anywhere on the page of results, and the clinic's viewer looks
# as if the archive was empty. The server can only leave the attribute out.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chromium=$(command -v chromium) || { echo "chromium (Debian) is missing."; exit 1; }
command -v npm >/dev/null || { echo "npm is missing."; exit 1; }
cd "$work"
npm pack --silent @ohif/app@3.13.2 >packed 2>err || { echo "@ohif/app 3.13.2 cannot be had here."; exit 1; }
mkdir ohif
tar --extract --gzip --file "$(cat packed)" --directory ohif --strip-components 2 --exclude '*.map' --exclude '*/ort/*' package/dist
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check playwright==1.65.2 2>err ||
    { echo "The pinned packages cannot be had here."; exit 1; }
cat >run.py <<'PYTHON'
import json
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import TimeoutError as NothingShown
from playwright.sync_api import sync_playwright

SETTINGS = """window.config = { extensions: [], modes: [], showStudyList: true, defaultDataSourceName: "source",
  investigationalUseDialog: { option: "never" }, dataSources: [{ sourceName: "source",
  namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", configuration: {
    qidoRoot: "/dicom-web", wadoRoot: "/dicom-web", imageRendering: "wadors", thumbnailRendering: "wadors" } }] };"""
EMPTY = {"00080061": {"vr": "CS"}}
asked = []


def study(number, modalities):
    """Return one result of a search for studies (PS3.18 Table 10.6.3-3)."""
    values = {"00080020": ("DA", "20240131"), "00080030": ("TM", "101500"), "00080050": ("SH", f"A{number}")}
    values |= {"00100020": ("LO", f"ID{number}"), "0020000D": ("UI", f"2.25.{number}"), "00200010": ("SH", "1")}
    found = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}
    found["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": f"Patient^{number}"}]}
    counts = {tag: {"vr": "IS", "Value": [1]} for tag in ("00201206", "00201208")}
    return found | counts | modalities


class Site(SimpleHTTPRequestHandler):
    """Serves OHIF, and the list of studies."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def do_GET(self):
        """Answer a search, or send a file of OHIF's; its page for all other addresses."""
        path = self.path.partition("?")[0]
        if path == "/dicom-web/studies":
            asked.append(self.path)
            self.answer("application/dicom+json", json.dumps(self.server.studies).encode())
        elif path == "/app-config.js":
            self.answer("text/javascript", SETTINGS.encode())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def answer(self, content_type, body):
        """Send one body."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


def shown(browser, server, studies):
    """Return the rows of the study list that name a patient; none when nothing appears."""
    server.studies = studies
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    rows = page.locator("tbody tr", has_text="Patient")
    try:
        with page.expect_response(lambda answer: "/dicom-web/studies" in answer.url, timeout=30_000):
            page.reload()
        rows.first.wait_for(timeout=15_000)
    except NothingShown:
        pass
    count = rows.count()
    page.close()
    return count


server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Site(*given, directory="ohif"))
threading.Thread(target=server.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1])
    known = {"00080061": {"vr": "CS", "Value": ["DX"]}}
    without = shown(browser, server, [study(1, known), study(2, {})])
    empty = shown(browser, server, [study(1, known), study(2, EMPTY)])
    browser.close()
server.shutdown()
assert asked, "OHIF has not asked for studies"
print(f"rows of two studies: {without} when one has no Modalities in Study, {empty} when it is there and empty")
sys.exit(0 if (without, empty) == (2, 0) else "The behaviour has changed")
PYTHON
echo "@ohif/app 3.13.2, $("$chromium" --version 2>/dev/null)"
timeout 120 venv/bin/python run.py "$chromium" 2>err || { tail -n 3 err; exit 1; }
