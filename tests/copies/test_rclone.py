"""Remotes of rclone as a copy: Debian's sshd with internal-sftp, and WebDAV, both real and on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from backup_scp.copies.cloud.cloud_copy import CloudCopy
from backup_scp.copies.cloud.rclone_process import RcloneProcess, _short
from backup_scp.copies.cloud.rclone_store import RcloneStore
from backup_scp.copies.cloud.sealing import RecoveryKeys
from backup_scp.errors import DestinationRefuses, DestinationUnavailable, FileMissing, InvalidSettings
from tests.copies.clouds import PAIR, Originals, SnapshotOfFile, empty_folder, fetched, put_all
from tests.copies.contract import StandAloneContract, flip
from tests.copies.remotes import NAME, Remote, sftp_remote, webdav_remote
from tests.processes import ROOT, clean_environment, wait_until

pytestmark = pytest.mark.system

REMOTES = {"sftp": sftp_remote, "webdav": webdav_remote}


def store_at(remote: Remote) -> RcloneStore:
    folder = f"{remote.path}/backup-scp" if remote.path else "backup-scp"
    return RcloneStore(NAME, folder, remote.config)


def copy_at(remote: Remote, work: Path, *, is_sealed: bool):
    encrypt = [PAIR.public_key] if is_sealed else ()
    return CloudCopy("cloud", store_at(remote), work, encrypt=encrypt, recovery_keys=RecoveryKeys(PAIR.recovery_key))


@pytest.fixture(params=list(REMOTES))
def remote(request, tmp_path):
    with REMOTES[request.param](tmp_path) as remote:
        yield remote


@pytest.fixture
def sftp(tmp_path):
    with sftp_remote(tmp_path) as remote:
        yield remote


@pytest.fixture
def originals(tmp_path):
    return Originals(tmp_path / "archive")


class RcloneContract(StandAloneContract):
    @pytest.fixture
    def open_place(self, tmp_path):
        kind = webdav_remote if self.is_sealed else sftp_remote
        (tmp_path / "server").mkdir()
        with kind(tmp_path / "server") as self.remote:
            yield lambda: copy_at(self.remote, tmp_path / "work", is_sealed=self.is_sealed)

    def flip(self, stored_name):
        flip(self.remote.file(stored_name))

    def remove(self, stored_name):
        self.remote.remove(stored_name)

    def names(self, place):
        return sorted(map(str, self.remote.files.rglob("*")))


class TestSFTP(RcloneContract):
    is_sealed = False


class TestSealedWebDAV(RcloneContract):
    is_sealed = True


def children_with(word: str) -> list[int]:
    """Processes of this computer whose environment or command has a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_nothing_is_left_behind(remote, originals, tmp_path):
    with copy_at(remote, tmp_path / "work", is_sealed=True) as copy:
        password = copy._store._process._password
        assert children_with(password)
        item, *_ = put_all(copy, originals)
        copy.conclude(SnapshotOfFile(), is_complete=True)
        assert fetched(copy, item) == originals.file(item)
        assert {image.location for image in copy.listed()} == {each.held.location for each in originals.items}
        for process in children_with(password):
            assert password.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    assert not children_with(password)
    assert empty_folder(tmp_path / "work")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_rclone_ends_when_the_node_is_killed(sftp, tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from backup_scp.copies.cloud.rclone_process import RcloneProcess\n"
        "process = RcloneProcess(Path(sys.argv[1]))\n"
        "process.start()\n"
        "print(process._password, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(sftp.config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    ) as node:
        assert node.stdout
        password = node.stdout.readline().strip()
        assert children_with(password)
        node.send_signal(signal.SIGKILL)
    wait_until(lambda: not children_with(password), what="rclone ending")


def test_what_a_crash_left_is_removed(sftp, originals, tmp_path):
    left = tmp_path / "work" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"an image that was on its way")
    with copy_at(sftp, tmp_path / "work", is_sealed=True) as copy:
        assert not left.exists()
        assert stat.S_IMODE((tmp_path / "work" / copy._spool._own).stat().st_mode) == 0o700


def test_a_second_copy_leaves_the_files_of_the_first_alone(sftp, originals, tmp_path):
    with copy_at(sftp, tmp_path / "work", is_sealed=True) as copy, copy._spool.file() as path:
        path.write_bytes(b"on its way")
        with copy_at(sftp, tmp_path / "work", is_sealed=True):
            pass
        assert path.read_bytes() == b"on its way"


def test_a_server_that_is_gone_is_told(originals, tmp_path):
    with webdav_remote(tmp_path) as remote, copy_at(remote, tmp_path / "work", is_sealed=False) as copy:
        (item,) = put_all(copy, originals, originals.items[:1])
        remote.server.terminate()
        with pytest.raises(DestinationUnavailable, match="place:"):
            fetched(copy, item)
        with pytest.raises(DestinationUnavailable, match="place:"):
            list(copy.put(originals.items[1:], originals.read))


def test_an_rclone_that_dies_is_told(sftp, originals, tmp_path):
    with copy_at(sftp, tmp_path / "work", is_sealed=False) as copy:
        (item,) = put_all(copy, originals, originals.items[:1])
        os.killpg(copy._store._process._popen.pid, signal.SIGKILL)
        with pytest.raises(DestinationUnavailable, match="rclone ended"):
            fetched(copy, item)
        with pytest.raises(DestinationUnavailable, match="rclone ended"):
            list(copy.put(originals.items, originals.read))
    with copy_at(sftp, tmp_path / "work", is_sealed=False) as copy:
        put_all(copy, originals)


def test_an_unknown_remote_is_told(sftp, tmp_path):
    with RcloneStore("nothing", "x", sftp.config) as store, pytest.raises(DestinationRefuses):
        store.head("a")


def test_what_is_not_there(sftp, tmp_path):
    with store_at(sftp) as store:
        assert store.head("images/a") is None
        assert list(store.list("images")) == []
        for ask in (lambda: store.digest("images/a"), lambda: store.get("images/a", "", io.BytesIO())):
            with pytest.raises(FileMissing):
                ask()


def test_a_name_is_never_overwritten(remote, tmp_path):
    for content in (b"one", b"another"):
        (tmp_path / content.decode()).write_bytes(content)
    with store_at(remote) as store:
        store.put("images/a", tmp_path / "one")
        store.put("images/a", tmp_path / "another")  # rclone calls it a success
        assert store.digest("images/a") == hashlib.sha256(b"one").hexdigest()
    assert remote.file("images/a").read_bytes() == b"one"


def test_an_old_rclone_is_refused_in_words(monkeypatch):
    process = RcloneProcess(None)
    answers = {
        "core/version": {"version": "v1.60.1"},
        "rc/list": {"commands": [{"Path": "operations/copyfile"}, {"Path": "operations/list"}]},
    }
    monkeypatch.setattr(process, "call", lambda function: answers[function])
    with pytest.raises(InvalidSettings, match=r"rclone v1\.60\.1 is too old.*pip install"):
        process._require_functions()


def test_a_missing_rclone_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(InvalidSettings, match="not installed"):
        RcloneProcess(None).start()


def test_what_is_read_needs_our_password(sftp, tmp_path):
    (sftp.files / "backup-scp").mkdir()
    (sftp.files / "backup-scp" / "a").write_bytes(b"an image")
    with store_at(sftp) as store:
        into = io.BytesIO()
        assert store.get("a", "", into) == hashlib.sha256(b"an image").hexdigest()
        assert into.getvalue() == b"an image"
        address = f"{store._process._url}/[{store.place}]/a"
        assert requests.get(address, timeout=10).status_code == requests.codes.unauthorized


def test_an_empty_digest_is_not_known(sftp, tmp_path, monkeypatch):
    with store_at(sftp) as store:
        monkeypatch.setattr(store._process, "call", lambda *_, **__: {"hash": "", "hashType": "sha256"})
        with pytest.raises(DestinationUnavailable, match="no digest"):
            store.digest("images/a")


def test_an_error_does_not_repeat_a_token():
    said = 'Get "https://host/a?access_token=secret": dial tcp: lookup host\n no such host'
    assert _short(said) == 'Get "https://host/a?...": dial tcp: lookup host no such host'
