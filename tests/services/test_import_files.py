"""Files below folders, links, zip files: each is read once, or skipped with a reason."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zipfile
from contextlib import closing

import pytest

from backup_scp.errors import SourceUnavailable
from backup_scp.services import import_files
from backup_scp.services.import_files import (
    LINK_ABOVE,
    LINK_TO_ITSELF,
    LINK_TO_NOTHING,
    NO_FILE,
    READ_ALREADY,
    Member,
    NotRead,
    is_zip,
    members,
    walk,
)

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@pytest.fixture
def drive(tmp_path):
    drive = tmp_path / "drive"
    (drive / "b" / "deep").mkdir(parents=True)
    for name in ("z", "a", "b/1", "b/deep/2"):
        (drive / name).write_text(name)
    return drive


def files(*roots):
    return [found for found in walk(roots) if not isinstance(found, NotRead)]


def left(*roots):
    return {found.path: found.reason for found in walk(roots) if isinstance(found, NotRead)}


class TestFolders:
    def test_every_file_in_order(self, drive):
        assert files(drive) == [drive / name for name in ("a", "z", "b/1", "b/deep/2")]
        assert left(drive) == {}

    def test_files_and_folders_as_they_are_named(self, drive):
        assert files(drive / "z", drive / "b") == [drive / "z", drive / "b" / "1", drive / "b" / "deep" / "2"]

    def test_a_folder_that_is_named_twice_is_read_once(self, drive):
        assert len(files(drive, drive / "b")) == 4
        assert left(drive, drive / "b") == {str(drive / "b"): READ_ALREADY}

    @needs_links
    def test_pipes_and_sockets_are_named_and_not_opened(self, drive):
        os.mkfifo(drive / "pipe")
        assert left(drive) == {str(drive / "pipe"): NO_FILE}

    def test_a_folder_that_cannot_be_read_may_hold_images(self, drive):
        found = walk([drive])
        next(found)
        shutil.rmtree(drive / "b")  # a drive with errors does the same
        (left,) = [each for each in found if isinstance(each, NotRead)]
        assert (left.path, left.may_be_image) == (str(drive / "b"), True)
        assert "The folder cannot be read" in left.reason


@needs_links
class TestLinks:
    def test_links_to_what_lies_elsewhere_are_followed_once(self, drive, tmp_path):
        annex = tmp_path / "annex"
        (annex / "folder").mkdir(parents=True)
        for name in ("1", "folder/2"):
            (annex / name).write_text(name)
        (drive / "one").symlink_to(annex / "1")
        (drive / "again").symlink_to(annex / "1")
        (drive / "dir").symlink_to(annex / "folder")
        (drive / "dir2").symlink_to(annex / "folder")

        assert files(drive)[4:] == [drive / "dir" / "2", drive / "again"]
        assert left(drive) == {str(drive / name): READ_ALREADY for name in ("dir2", "one")}

    def test_links_within_what_is_read_anyway(self, drive):
        (drive / "file").symlink_to(drive / "b" / "1")
        (drive / "folder").symlink_to(drive / "b")
        assert len(files(drive)) == 4
        assert left(drive) == {str(drive / name): READ_ALREADY for name in ("file", "folder")}

    def test_loops_and_links_above(self, drive, tmp_path):
        (drive / "self").symlink_to("self")
        (drive / "up").symlink_to("..")
        (drive / "root").symlink_to("/")
        (drive / "b" / "loop").symlink_to(drive)
        (drive / "gone").symlink_to(tmp_path / "nothing")
        os.mkfifo(tmp_path / "pipe")
        (drive / "to a pipe").symlink_to(tmp_path / "pipe")
        assert len(files(drive)) == 4
        assert left(drive) == {
            str(drive / "self"): LINK_TO_ITSELF,
            str(drive / "up"): LINK_ABOVE,
            str(drive / "root"): LINK_ABOVE,
            str(drive / "b" / "loop"): LINK_ABOVE,
            str(drive / "gone"): LINK_TO_NOTHING,
            str(drive / "to a pipe"): NO_FILE,
        }

    def test_one_that_cannot_be_followed_may_lead_to_images(self, drive):
        (drive / "far").symlink_to("x" * 300)  # longer than a name can be
        (found,) = [found for found in walk([drive]) if isinstance(found, NotRead)]
        assert (found.path, found.may_be_image) == (str(drive / "far"), True)
        assert "The link cannot be followed" in found.reason

    def test_two_folders_that_link_to_each_other(self, drive, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        (other / "3").touch()
        (other / "back").symlink_to(drive / "b")
        (drive / "there").symlink_to(other)
        assert len(files(drive)) == 5
        assert left(drive) == {str(drive / "there" / "back"): READ_ALREADY}

    def test_a_link_that_is_named_itself(self, drive, tmp_path):
        (tmp_path / "link").symlink_to(drive)
        assert len(files(tmp_path / "link")) == 4


def read(path):
    found: dict[str, bytes | str] = {}
    for member in members(path):
        if isinstance(member, NotRead):
            found[member.path.partition(": ")[2]] = member.reason
            continue
        with member.open() as stream:
            found[member.path.partition(": ")[2]] = stream.read()
    return found


class TestZip:
    @pytest.fixture
    def make(self, tmp_path):
        def make(compression=zipfile.ZIP_DEFLATED, **contents):
            path = tmp_path / "file.zip"
            with zipfile.ZipFile(path, "w", compression) as file:
                for name, content in contents.items():
                    file.writestr(name, content)
            return path

        return make

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_the_bytes_in_it(self, make, compression):
        path = make(compression, a=b"one", b=bytes(3_000_000))
        assert is_zip(path)
        assert read(path) == {"a": b"one", "b": bytes(3_000_000)}

    def test_a_member_can_be_gone_through_as_a_file(self, make):
        member = next(inside := members(make(a=bytes(range(256)) * 1000)))
        assert isinstance(member, Member)
        with closing(inside), member.open() as stream:
            stream.seek(200_000)
            assert stream.read(2) == bytes((200_000 % 256, 200_001 % 256))
            stream.seek(5)
            assert (stream.read(1), stream.tell()) == (b"\5", 6)

    def test_a_member_that_is_closed_holds_nothing_open(self, make):
        member = next(inside := members(make(a=b"x")))
        assert isinstance(member, Member)
        with closing(inside):
            with member.open() as stream:
                in_zip = stream.raw._stream  # type: ignore[attr-defined]  # a BufferedReader
            assert in_zip.closed

    def test_names_are_shown_and_never_used(self, make, tmp_path):
        path = make(**{"../../outside": b"x", "/absolute": b"y", "folder/": b""})
        before = sorted(tmp_path.rglob("*"))
        assert read(path) == {"../../outside": b"x", "/absolute": b"y"}
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_wrong_checksum_is_met_at_the_end(self, make):
        path = make(zipfile.ZIP_STORED, a=b"abcdefgh" * 1000)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"abcdefgh", b"abcdefgX", 1))
        with pytest.raises(SourceUnavailable, match="damaged in its zip file"):
            read(path)

    def test_a_broken_stream(self, make):
        path = make(a=os.urandom(1000))
        content = bytearray(path.read_bytes())
        content[40:60] = b"\xff" * 20
        path.write_bytes(content)
        with pytest.raises(SourceUnavailable, match="damaged in its zip file"):
            read(path)

    def test_one_that_is_cut_off(self, make):
        path = make(a=b"x" * 1000)
        path.write_bytes(path.read_bytes()[:-30])
        assert is_zip(path)
        with pytest.raises(SourceUnavailable, match="cut off"):
            read(path)

    def test_what_is_encrypted_or_packed_otherwise_is_named(self, make):
        path = make(a=b"x", b=b"y")
        content = bytearray(path.read_bytes())
        for offset in (content.index(b"PK\1\2") + 8, content.index(b"PK\3\4") + 6):
            content[offset] |= 1
        path.write_bytes(content)
        found = read(path)
        assert "encrypted" in found["a"]
        assert found["b"] == b"y"
        assert "by a method" in read(make(zipfile.ZIP_LZMA, a=b"x"))["a"]

    def test_what_it_expands_to_is_bounded(self, make, monkeypatch):
        monkeypatch.setattr(import_files, "_FREE_EXPANSION_BYTES", 0)
        path = make(a=bytes(30_000), b=bytes(300_000), c=b"x")
        found = read(path)
        assert found["a"] == bytes(30_000)
        assert "expands to too many bytes" in found["b"]
        assert "expands to too many bytes" in found["c"]

    @pytest.mark.parametrize("further_bytes", [0, 1])
    def test_it_may_expand_to_a_gigabyte_and_to_200_times_its_size(self, make, further_bytes):
        """Only its list of members says so; nothing of this length is written or read."""
        path = make(a=b"x", b=b"y")
        content = bytearray(path.read_bytes())
        allowed_bytes = 1_000_000_000 + 200 * len(content) - 1
        struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, allowed_bytes + further_bytes)
        path.write_bytes(content)
        assert [isinstance(member, Member) for member in members(path)] == [True, not further_bytes]

    def test_more_than_it_says_is_not_read(self, make):
        """A member with a wrong, short length: its checksum cannot be right."""
        path = make(a=bytes(100_000))
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 10)
        path.write_bytes(content)
        with pytest.raises(SourceUnavailable, match="damaged in its zip file"):
            read(path)

    def test_a_list_of_members_that_is_too_long_is_not_read(self, make, monkeypatch):
        monkeypatch.setattr(import_files, "_MOST_DIRECTORY_BYTES", 100)
        with pytest.raises(SourceUnavailable, match="damaged, or cut off"):
            read(make(**{str(number): b"" for number in range(10)}))

    @pytest.mark.parametrize(("size", "count"), [(None, 100), (-1, 100), (-2, 100), (0, 0), (1, 1), (100, 100)])
    def test_so_much_of_a_zip_file_is_read_at_once(self, tmp_path, monkeypatch, size, count):
        monkeypatch.setattr(import_files, "_MOST_DIRECTORY_BYTES", 100)
        (tmp_path / "file").write_bytes(bytes(1000))
        with import_files._Bounded(tmp_path / "file") as stream:
            assert len(stream.read(size)) == count
            with pytest.raises(zipfile.BadZipFile):
                stream.read(101)

    def test_what_is_no_zip_file(self, drive):
        assert not is_zip(drive / "a")
        assert not is_zip(drive / "nothing")
