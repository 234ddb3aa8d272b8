"""backup-scp echo, check and restore to a remote AE, against pynetdicom's own SCPs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import sys
import threading
import traceback

import pytest
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from tests.dimse.destination import Destination
from tests.dimse.wire import CT_IMAGE_STORAGE
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode

LOOPBACK = "127.0.0.1"
VERIFICATION = "1.2.840.10008.1.1"


class Peer:
    """A pynetdicom SCP that stores images, until it is set to refuse."""

    def __init__(self, contexts=AllStoragePresentationContexts) -> None:
        self.received: list[str] = []
        self.refused: set[str] = set()
        ae = AE("CONSOLE")
        ae.supported_contexts = contexts
        ae.add_supported_context(VERIFICATION)
        ae.require_called_aet = True
        server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None
        self._server = server
        self.port = server.server_address[1]

    def _store(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.refused:
            return 0xA700
        self.received.append(uid)
        return 0x0000

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _PeerOf(Peer):
    """One that stores images of these SOP Classes only."""

    def __init__(self, classes) -> None:
        super().__init__([build_context(each) for each in classes])

    def close(self) -> None:
        self.stop()


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.stop()


@pytest.fixture
def configure(home, monkeypatch):
    def configure(port, *, host=LOOPBACK, ae_title="CONSOLE", more=""):
        config = home / "settings.toml"
        config.write_text(
            f"[[remote]]\nname = 'dr room'\nae_title = '{ae_title}'\nhost = '{host}'\nport = {port}\n{more}\n"
        )
        monkeypatch.setenv("BACKUP_SCP_CONFIG", str(config))

    return configure


@pytest.fixture
def closed_port():
    """Reserve a port without a listener."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


def waits_for_an_answer() -> bool:
    """Tell whether the command, in the main thread, has read the next image ahead and waits for its destination."""
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    return any(frame.name == "read_response" for frame in traceback.extract_stack(main))


class TestEcho:
    @pytest.mark.parametrize("name", ["dr room", "CONSOLE"])
    def test_a_configured_one(self, run, configure, peer, name):
        configure(peer.port)
        ran = run("echo", name)
        assert ran.code == 0, ran.err
        assert f"CONSOLE at {LOOPBACK}:{peer.port} answers" in ran.out
        assert run("echo", "--json", name).json["ae_title"] == "CONSOLE"

    def test_any_address(self, run, peer):
        assert run("echo", f"CONSOLE@{LOOPBACK}:{peer.port}").code == 0

    @pytest.mark.parametrize("name", ["nobody", "A@B", "@h:104", "A" * 17 + "@h:104"])
    def test_nobody(self, run, configure, name):
        configure(104)
        ran = run("echo", name)
        assert ran.code == 1
        assert "dr room" in ran.err

    def test_a_port_at_which_nobody_listens(self, run, closed_port):
        ran = run("echo", f"CONSOLE@{LOOPBACK}:{closed_port}")
        assert ran.code == 1
        assert str(closed_port) in ran.err

    def test_an_ae_title_that_it_does_not_have(self, run, peer):
        ran = run("echo", f"OTHER@{LOOPBACK}:{peer.port}")
        assert ran.code == 1
        assert "OTHER" in ran.err


class TestCheck:
    def remote(self, ran):
        return next(finding for finding in ran.json if finding["what"] == "remote dr room")

    @pytest.mark.usefixtures("free_ports")
    def test_all_is_well(self, run, configure, peer, stored, node_run):
        node_run.close()
        configure(peer.port)
        ran = run("check")
        assert ran.code == 0, ran.out
        assert {line[:4] for line in ran.out.splitlines()} == {"ok  ", "note"}
        assert "note  node: not running" in ran.out
        assert "ok    remote dr room: CONSOLE at" in ran.out

    def test_a_name_that_is_none(self, run, configure):
        configure(104, host="no-such-host.invalid")
        ran = run("check", "--json")
        assert ran.code == 1
        assert "is unknown" in self.remote(ran)["sentence"]

    def test_a_port_at_which_nobody_listens(self, run, configure, closed_port):
        configure(closed_port)
        ran = run("check", "--json")
        assert ran.code == 1
        assert "firewall" in self.remote(ran)["fix"]

    def test_an_ae_title_that_it_does_not_have(self, run, configure, peer):
        configure(peer.port, ae_title="OTHER")
        ran = run("check", "--json")
        assert ran.code == 1
        assert "Called AE title not recognised" in self.remote(ran)["sentence"]
        assert "OTHER is not its AE title" in self.remote(ran)["fix"]

    @pytest.fixture
    def findings(self, run, home, monkeypatch, stored, node_run):
        """Return the findings of `check AE`, by subject, with an image in the archive."""
        stored.put(encode(ct_series(1)[0]))
        stored.put(encode(dx()))
        node_run.close()

        def check(name="dr room", code=0):
            ran = run("check", name, "--json")
            assert ran.code == code, ran.out
            return {finding["what"]: finding for finding in ran.json}

        return check

    def test_one_alone(self, findings, configure, peer):
        configure(peer.port)
        found = findings()
        assert set(found) == {"remote dr room", "images for dr room"}
        assert "every kind of image that is stored here (2)" in found["images for dr room"]["sentence"]
        assert findings(f"CONSOLE@{LOOPBACK}:{peer.port}").keys() > {f"remote CONSOLE@{LOOPBACK}:{peer.port}"}
        assert peer.received == []

    def test_nobody_of_that_name(self, run, configure, peer):
        configure(peer.port)
        ran = run("check", "dr rom")
        assert ran.code == 1
        assert "There is no remote AE dr rom (dr room)" in ran.err

    def test_what_it_does_not_take_is_named(self, findings, configure):
        with contextlib.closing(_PeerOf(["1.2.840.10008.5.1.4.1.1.2"])) as peer:
            configure(peer.port)
            images = findings()["images for dr room"]
        assert images["severity"] == "note"
        assert images["sentence"] == "it does not accept Digital X-Ray Image Storage - For Presentation"
        assert "switch it on there" in images["fix"]

    def test_one_that_takes_nothing(self, findings, configure):
        with contextlib.closing(_PeerOf([])) as peer:
            configure(peer.port)
            images = findings()["images for dr room"]
            configure(peer.port, more="destination = false")
            assert set(findings()) == {"remote dr room"}
        assert (images["severity"], images["sentence"]) == ("note", "it takes no kind of image that is stored here")
        assert "set destination = false of [[remote]] dr room" in images["fix"]

    def test_its_port_for_commitment_reports(self, findings, configure, peer, closed_port):
        configure(peer.port, more=f"commitment_port = {closed_port}")
        port = findings(code=1)["commitment port of dr room"]
        assert port["sentence"].startswith(f"Storage Commitment port {closed_port} of CONSOLE at {LOOPBACK} cannot be")
        assert f"open port {closed_port} in the firewall of CONSOLE" in port["fix"]
        configure(peer.port, more=f"commitment_port = {peer.port}")
        assert findings()["commitment port of dr room"]["severity"] == "ok"

    def test_an_archive_that_cannot_be_written(self, run, home):
        (home / "archive").touch()
        ran = run("check")
        assert ran.code == 1
        assert "FAIL  archive: " in ran.out

    def test_an_index_that_is_none(self, run, home):
        (home / "index.sqlite").write_bytes(b"nonsense" * 1000)
        ran = run("check")
        assert ran.code == 1
        assert "FAIL  index: " in ran.out

    @pytest.mark.usefixtures("free_ports")
    def test_it_leaves_nothing_in_the_archive(self, run, home, stored, node_run):
        node_run.close()
        assert run("check").code == 0
        assert [path for path in (home / "archive").rglob("*") if path.is_file() and path.stat().st_size] == []


class TestRestoreToAnAE:
    @pytest.fixture
    def slices(self, stored):
        samples = [encode(ds) for ds in ct_series(3)]
        for sample in samples:
            stored.put(sample)
        return [sample.sop_instance_uid for sample in samples]

    def test_what_it_confirmed_is_not_sent_again(self, run, configure, peer, slices):
        configure(peer.port)
        peer.refused = {slices[1]}
        ran = run("restore", "--to", "dr room", "--all")
        assert ran.code == 1
        assert "2 of 3 images are on dr room. 1 is not" in ran.out
        assert "Nothing was lost" in ran.out

        peer.refused, peer.received = set(), []
        ran = run("restore", "--to", "CONSOLE", "--all")
        assert ran.code == 0, ran.err
        assert peer.received == [slices[1]]
        assert "--again" in ran.out

        peer.received = []
        assert run("restore", "--to", "dr room", "--all", "--again").code == 0
        assert peer.received == slices

    def test_one_that_moved_to_another_port_has_confirmed_nothing(self, run, configure, peer, slices):
        configure(peer.port)
        run("restore", "--to", "dr room", "--all")
        another = Peer()
        try:
            configure(another.port)
            assert run("restore", "--to", "dr room", "--all", "--json").json["sent"] == 3
            assert another.received == slices
        finally:
            another.stop()

    def test_one_that_is_off(self, run, configure, closed_port, slices):
        configure(closed_port)
        ran = run("restore", "--to", "dr room", "--all", "--wait", "0")
        assert (ran.code, ran.err) == (1, "")
        assert "0 of 3 images are on dr room" in ran.out
        assert "cannot be reached" in ran.out

    def test_one_that_is_named_by_its_address(self, run, home, peer, slices):
        to = f"CONSOLE@{LOOPBACK}:{peer.port}"
        assert run("restore", "--to", to, "--all").code == 0
        assert peer.received == slices
        assert run("restore", "--to", to, "--all", "--json").json["confirmed_before"] == 3

    def test_a_journal_of_an_earlier_version_is_read(self, run, configure, home, peer, slices):
        configure(peer.port)
        assert run("restore", "--to", "dr room", "--all").code == 0
        (journal,) = (home / "restores").glob("*.sqlite")
        with contextlib.closing(sqlite3.connect(journal)) as connection:
            rows = connection.execute("SELECT hex(sha256), location FROM confirmed").fetchall()
        for file in (home / "restores").iterdir():
            file.unlink()
        lines = [f"{digest.lower()}  {location}\n" for digest, location in rows[:2]]
        journal.with_suffix(".txt").write_text("".join(lines))
        assert run("restore", "--to", "dr room", "--all", "--json").json["confirmed_before"] == 2

    def test_ctrl_c_says_what_was_done_and_the_same_command_goes_on(self, run, configure, slices):
        there = Destination(accepts=lambda abstract, _: abstract == CT_IMAGE_STORAGE)

        def interrupt() -> None:
            if len(there.stored) == 2:
                wait_until(waits_for_an_answer)  # and opens no file, which Python would miss
                os.kill(os.getpid(), signal.SIGINT)

        there.before_answer = interrupt
        try:
            configure(there.port)
            ran = run("restore", "--to", "dr room", "--all")
            assert ran.code == 130
            assert "of 3 images " in ran.out
            assert "It was interrupted" in ran.out
            assert "Running the same command again is safe" in ran.out
            assert run("restore", "--to", "dr room", "--all").code == 0
        finally:
            there.close()
        assert {one.sop_instance_uid for one in there.stored} == set(slices)
        assert there.ended[0] != "ReleasedError"  # it may have been in the middle of a message

    def test_one_that_may_not_be_sent_to(self, run, configure, peer, slices):
        configure(peer.port, more="destination = false")
        ran = run("restore", "--to", "dr room", "--all")
        assert ran.code == 1
        assert "destination = false" in ran.err
        assert peer.received == []
