"""`tls init`: browsers, curl, dcmtk and openssl trust its certificates; a renewal needs no restart."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from playwright.sync_api import Error, Page, sync_playwright

from tests.processes import LOOPBACK, connects, free_port, peer_missing, wait_until
from tests.samples import make_study
from tests.system import raw_sender
from tests.system.contents import visible
from tests.system.node import Node
from tests.system.peers import echoscu, require, storescu
from tests.system.web import web_address, web_node


@dataclass(frozen=True)
class SecuredPort:
    """The port with TLS of a node, as a peer calls it."""

    port: int
    host: str = LOOPBACK
    ae_title: str = "BACKUP_SCP"


@dataclass
class Secured:
    """A node with the certificates of `tls init`, for Associations and for the page."""

    node: Node
    dicom: SecuredPort

    @property
    def ca(self) -> Path:
        return self.node.home / "tls" / "ca.pem"

    @property
    def page(self) -> str:
        return re.sub(r"/dicom-web$", "", web_address(self.node))

    @property
    def web_port(self) -> int:
        return int(self.page.rpartition(":")[2])

    @property
    def context(self) -> ssl.SSLContext:
        """What a caller on this machine has who trusts the authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False  # our sender of raw PDUs names none
        return context

    def serial(self, port: int) -> str:
        """Return the serial number of the certificate that openssl gets there, and verifies."""
        connection = ("-connect", f"{LOOPBACK}:{port}", "-verify_return_error", "-verify_ip", LOOPBACK)
        shown = openssl("s_client", *connection, "-CAfile", self.ca)
        return openssl("x509", "-noout", "-serial", given=shown).strip()


def openssl(*arguments: object, given: str = "") -> str:
    argv = [require("openssl"), *map(str, arguments)]
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def start(make_node):
    """Return `start(**tls)`: a node that was given its certificates by `tls init`."""

    def start(workers: int = 1, **tls) -> Secured:
        port = SecuredPort(free_port())
        files = {"certificate": "tls/node.pem", "key": "tls/node-key.pem"}
        node = web_node(
            make_node, dict(files), settings={"tls": files | {"port": port.port} | tls, "node": {"workers": workers}}
        )
        node.home.mkdir()
        node.write_settings()
        node.cli("tls", "init", "--name", "pacs.clinic.example")
        node.start()
        wait_until(lambda: connects(port.port), what="the port with TLS")
        return Secured(node, port)

    return start


def test_curl_and_dcmtk_trust_it_by_its_authority(start, tmp_path):
    secured = start()
    curl = [require("curl"), "--silent", "--show-error", "--cacert", str(secured.ca)]
    for host in ("localhost", LOOPBACK):
        page = subprocess.run(
            [*curl, f"https://{host}:{secured.web_port}/"], capture_output=True, text=True, check=False
        )
        assert (page.returncode, "<html" in page.stdout) == (0, True), page
    name = ["--resolve", f"pacs.clinic.example:{secured.web_port}:{LOOPBACK}"]
    subprocess.run([*curl, *name, f"https://pacs.clinic.example:{secured.web_port}/"], check=True, capture_output=True)
    make_study(tmp_path / "study", patients=1, studies=1, instances=2)
    storescu(secured.dicom, tmp_path / "study", options=("+tla", "+cf", str(secured.ca)))
    assert len(visible(secured.node)) == 2


def test_only_who_has_a_certificate(start, tmp_path):
    """With `ca` in [tls], a console needs the certificate of `tls client`."""
    secured = start(ca="tls/ca.pem")
    made = secured.node.json("tls", "client", "DR-1")["certificate"]
    make_study(tmp_path / "study", patients=1, studies=1, instances=2)
    storescu(
        secured.dicom, tmp_path / "study", options=("+tls", made["key_file"], made["file"], "+cf", str(secured.ca))
    )
    assert len(visible(secured.node)) == 2
    assert echoscu(secured.dicom, "+tla", "+cf", str(secured.ca), exit_code=None).returncode


@contextlib.contextmanager
def chromium_of(home: Path, ca: Path | None) -> Iterator[Page]:
    """Start a browser of a user who has installed an authority, or none."""
    program = shutil.which("chromium")
    if program is None:
        peer_missing("chromium")
    certutil, store = require("certutil"), home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    subprocess.run([certutil, "-N", "--empty-password", "-d", f"sql:{store}"], check=True)
    if ca is not None:
        subprocess.run([certutil, "-A", "-n", "clinic", "-t", "C,,", "-i", ca, "-d", f"sql:{store}"], check=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--disable-gpu"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}
        )
        yield browser.new_page()
        browser.close()


def test_a_browser_with_the_authority_opens_the_page_without_a_warning(start, tmp_path):
    secured = start()
    with chromium_of(tmp_path / "stranger", None) as page, pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(f"https://localhost:{secured.web_port}/")
    with chromium_of(tmp_path / "user", secured.ca) as page:
        for host in ("localhost", LOOPBACK):
            answer = page.goto(f"https://{host}:{secured.web_port}/")
            assert answer is not None
            assert answer.ok
            assert page.evaluate("window.isSecureContext")
            assert " backup-scp " in str(answer.security_details())


class Callers:
    """Callers that connect to both ports without a pause, and note what fails."""

    def __init__(self, secured: Secured) -> None:
        self.failures: list[str] = []
        self.done = 0
        self._ended = threading.Event()
        self._secured = secured
        calls = (self._echo, self._look)
        self._threads = [threading.Thread(target=self._call, args=[call]) for call in calls for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, call) -> None:
        while not self._ended.is_set():
            try:
                call()
                self.done += 1
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.failures.append(repr(error))

    def _echo(self) -> None:
        with raw_sender.Association(self._secured.dicom, tls=self._secured.context) as caller:
            assert caller.echo() == 0

    def _look(self) -> None:
        from urllib.request import urlopen

        with urlopen(f"{self._secured.page}/", context=self._secured.context, timeout=60) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_renewal_is_taken_under_load_without_a_restart(start, workers):
    secured = start(workers)
    ports = (secured.dicom.port, secured.web_port)
    before = {secured.serial(port) for port in ports}
    with raw_sender.Association(secured.dicom, tls=secured.context) as open_one:
        with Callers(secured) as callers:
            wait_until(lambda: callers.done > 20, what="the load")
            secured.node.cli("tls", "renew", "--name", "nas.local")
            wait_until(
                lambda: secured.node.output.count("was renewed: new connections use it") == 1 + workers,
                what="each process having the new certificate",
            )
            so_far = callers.done
            wait_until(lambda: callers.done > so_far + 20, what="callers after it")
        assert open_one.echo() == 0
    assert callers.failures == []
    after = {secured.serial(port) for port in ports}
    assert (len(after), after & before) == (1, set())


def test_a_wrong_pair_is_refused_in_words_and_the_earlier_one_stays(start):
    secured = start()
    ports = (secured.dicom.port, secured.web_port)
    before = {secured.serial(port) for port in ports}
    other = secured.node.json("tls", "client", "DR-1")["certificate"]["file"]
    shutil.copyfile(other, secured.node.home / "tls" / "node.pem")

    def refused() -> bool:
        assert {secured.serial(port) for port in ports} == before
        said = secured.node.output
        return all(
            re.search(rf"\[{name}\] certificate.*earlier certificate stays in use", said) for name in ("tls", "web")
        )

    wait_until(refused, what="both sentences in the log")
    (finding,) = [f for f in secured.node.json("status", exit_code=None)["findings"] if f["what"] == "certificate"]
    assert "mismatch" in finding["sentence"]
    secured.node.cli("tls", "renew")
    wait_until(lambda: all(secured.serial(port) not in before for port in ports), what="the new certificate")
