"""Checks of the system on real disks, ports and owners; they leave nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import sys
from dataclasses import replace

import pytest

from backup_scp.machine.folders import try_to_write
from backup_scp.node.health import surroundings
from backup_scp.node.health.surroundings import (
    closed_folders,
    log_trouble,
    port_trouble,
    why_closed,
)
from backup_scp.node.run_record import NodeState
from backup_scp.node.settings import load
from tests.node.health.conftest import RECORD
from tests.processes import LOOPBACK, free_port
from tests.system.mounts import fill, private_mounts

NOBODY = 65534


@pytest.fixture
def settings_of(tmp_path):
    def settings_of(**variables):
        environment = {f"BACKUP_SCP_{name}": str(value) for name, value in variables.items()}
        return load(None, {"BACKUP_SCP_HOME": str(tmp_path)} | environment)

    return settings_of


class TestDisks:
    def test_one_that_can_be_written_keeps_nothing(self, tmp_path, settings_of):
        (tmp_path / "archive").mkdir()
        assert surroundings.why_not_writable(settings_of()) == ""
        assert list(tmp_path.rglob("*")) == [tmp_path / "archive"]

    def test_a_folder_that_is_not_there_yet_is_not_made(self, tmp_path):
        assert why_closed(tmp_path / "a" / "b") == ""
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "archive").touch()
        assert why_closed(tmp_path / "archive") == os.strerror(errno.ENOTDIR)

    def test_read_only(self, tmp_path, settings_of):
        with private_mounts() as mounts:
            mounts.disk(tmp_path / "disk", "1m")
            mounts.bind(tmp_path / "disk", tmp_path / "archive")
            mounts.read_only(tmp_path / "disk", tmp_path / "archive")
            said = surroundings.why_not_writable(settings_of())
        assert said == f"The disk of the archive cannot be written: Read-only file system ({tmp_path / 'archive'})"

    def test_full_to_the_last_byte_where_the_index_lies(self, tmp_path, settings_of):
        with private_mounts() as mounts:
            disk = tmp_path / "disk"
            mounts.disk(disk, "1m")
            fill(disk, 0)
            said = surroundings.why_not_writable(settings_of(INDEX__URL=f"sqlite:///{disk}/index.sqlite"))
        assert said == f"The disk of the index cannot be written: No space left on device ({disk})"

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is without a name")
    def test_a_file_system_that_knows_only_files_with_names(self, tmp_path, monkeypatch):
        real = os.open

        def refuse_nameless(path, flags, *arguments):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *arguments)

        monkeypatch.setattr(os, "open", refuse_nameless)
        try_to_write(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_index_of_a_server_has_no_disk_here(self, settings_of):
        assert surroundings.index_file(settings_of(INDEX__URL="postgresql://192.0.2.1/x")) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives folders to another user: root")
class TestOwners:
    @pytest.fixture
    def archive(self, tmp_path):
        for folder in ("00/1.2", "00/1.3", "ff/1.4/5"):
            (tmp_path / "archive" / folder).mkdir(parents=True, mode=0o700)
        for path in (tmp_path / "archive", *(tmp_path / "archive").rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        return tmp_path / "archive"

    def test_all_are_the_nodes(self, archive, settings_of):
        assert closed_folders(settings_of(), NodeState(False, None)) == []

    @pytest.mark.parametrize("running", [True, False])
    def test_some_are_not(self, archive, settings_of, running):
        for folder in ("00", "ff/1.4"):
            os.chown(archive / folder, 0, 0)
            (archive / folder).chmod(0o700)
        state = NodeState(running, replace(RECORD, user=NOBODY) if running else None)
        assert closed_folders(settings_of(), state) == [str(archive / "00"), str(archive / "ff/1.4")]

    def test_a_group_may_share_them(self, archive, settings_of):
        os.chown(archive / "00", 0, NOBODY)
        (archive / "00").chmod(0o770)
        assert closed_folders(settings_of(), NodeState(True, replace(RECORD, user=NOBODY))) == []

    def test_root_may_write_everywhere(self, archive, settings_of):
        os.chown(archive / "00", 1, 1)
        assert closed_folders(settings_of(), NodeState(True, replace(RECORD, user=0))) == []


class TestPorts:
    @pytest.mark.parametrize("host", [LOOPBACK, "0.0.0.0"])
    def test_one_that_is_free(self, host):
        assert port_trouble(host, free_port()) == ""

    def test_one_that_another_program_has(self):
        with socket.create_server((LOOPBACK, 0)) as other:
            assert "is already in use" in port_trouble(LOOPBACK, other.getsockname()[1])

    @pytest.mark.parametrize("host", ["192.0.2.77", "not an address", "no-such-host.invalid", "é" * 70])
    def test_an_address_that_this_computer_does_not_have(self, host):
        assert "is no address of this computer" in port_trouble(host, 0)


class TestLog:
    def test_it_is_not_made(self, tmp_path, settings_of):
        assert log_trouble(settings_of(LOG__FILE="logs/node.log")) == ""
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_there(self, tmp_path, settings_of):
        (tmp_path / "node.log").write_text("before\n")
        assert log_trouble(settings_of(LOG__FILE="node.log")) == ""
        assert (tmp_path / "node.log").read_text() == "before\n"

    @pytest.mark.parametrize("file", ["taken", "file/node.log"])
    def test_one_that_cannot_be(self, tmp_path, settings_of, file):
        (tmp_path / "taken").mkdir()
        (tmp_path / "file").touch()
        assert "choose another" in log_trouble(settings_of(LOG__FILE=file))

    def test_none(self, settings_of):
        assert log_trouble(settings_of()) == ""
