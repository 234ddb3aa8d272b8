"""Read a node's archive folder as docs/archive-format.md describes it, without backup-scp."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom

from tests.samples import Sample, data_set_bytes, data_set_of
from tests.system.node import Node

STAGING, DAMAGED, MARKER = ".staging", ".damaged", ".backup-scp-archive"
_JOURNAL_BYTES = 8 << 20
PRIVATE_INFORMATION = (0x0002, 0x0102)


def visible(node: Node) -> list[Path]:
    """Return every file of the archive except its marker, staged files and damaged files.

    A crash may leave a marker that was being written, under a longer name.
    """
    tops = {path: path.relative_to(archive_of(node)).parts[0] for path in _files(node)}
    return [path for path, top in tops.items() if top not in {STAGING, DAMAGED} and not top.startswith(MARKER)]


def stored_file(node: Node, sample: Sample) -> Path:
    """Return where the node keeps an instance."""
    (found,) = (path for path in visible(node) if path.name.startswith(f"{sample.sop_instance_uid}."))
    return found


def damage(path: Path, kind: str) -> None:
    """Do to a file what disks do."""
    raw = bytearray(path.read_bytes())
    if kind == "flip":
        raw[-1] ^= 1
        path.write_bytes(raw)
    elif kind == "flip in the File Meta":
        raw[raw.index(b"C-STORE")] ^= 1
        path.write_bytes(raw)
    elif kind == "truncate":
        path.write_bytes(raw[:-1])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "lengthen":
        path.write_bytes(raw + b"\0")
    else:
        path.unlink()


def staged(node: Node) -> list[Path]:
    """Return the files on their way in: they have bytes, and no other name yet."""
    return [path for path, found in _in_staging(node) if found.st_size and found.st_nlink == 1]


def notes(node: Node) -> list[Path]:
    """Return the second names of visible files that are not durable in their places yet, or have no row."""
    return [path for path, found in _in_staging(node) if found.st_nlink > 1]


def _in_staging(node: Node) -> Iterator[tuple[Path, os.stat_result]]:
    for path in _files(node):
        if STAGING in path.parts and path.name != "lock" and not is_journal(path):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def under_way(node: Node) -> list[Path]:
    """Return the staged files that the node has open."""
    found = []
    for descriptor in Path(f"/proc/{node.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(descriptor.readlink())
    return [path for path in found if STAGING in path.parts and path.suffix == ".dcm"]


def is_journal(path: Path) -> bool:
    """Tell whether a file in staging is a journal."""
    return path.name.startswith("journal-")


def has_journal(node: Node) -> bool:
    """Tell whether the running node has made its journal."""
    found = [path for path in _files(node) if STAGING in path.parts and is_journal(path)]
    return len(found) == 2 and all(path.stat().st_size >= _JOURNAL_BYTES for path in found)


def left_by_a_crash(node: Node, *, journals_only: bool = False) -> set[str]:
    """Return the SHA-256 of each whole Data Set in staging, in files and in journals."""
    found = set()
    for path in _files(node):
        with contextlib.suppress(FileNotFoundError):
            if STAGING in path.parts and is_journal(path):
                found |= {digest_if_whole(raw) for raw in _members(path)}
            elif STAGING in path.parts and not journals_only:
                found.add(digest_if_whole(path.read_bytes()))
    return found - {""}


def _members(journal: Path) -> Iterator[bytes]:
    """Read a journal as any program reads a tar file."""
    with contextlib.suppress(tarfile.TarError), tarfile.open(journal, "r:") as members:
        for member in members:
            content = members.extractfile(member)
            yield content.read() if content else b""


def digest_if_whole(raw: bytes) -> str:
    """Return the SHA-256 of a file's Data Set if it is the one that the file names; empty for a torn file."""
    try:
        said, _ = json.JSONDecoder().raw_decode(raw[raw.index(b'{"format":') :].decode("latin-1"))
        found = hashlib.sha256(data_set_of(raw)).hexdigest()
    except (ValueError, struct.error):
        return ""
    return found if found == said["sha256"] else ""


def whole(files: Iterable[Path]) -> set[str]:
    """Return the SHA-256 of the Data Sets of those files that are whole."""
    return {digest_if_whole(path.read_bytes()) for path in files} - {""}


def staged_bytes(node: Node) -> int:
    """Return the size of the staged files; those that go meanwhile do not count."""
    size_bytes = 0
    for path in staged(node):
        with contextlib.suppress(FileNotFoundError):
            size_bytes += path.stat().st_size
    return size_bytes


def archive_of(node: Node) -> Path:
    """Return the archive's folder."""
    return Path(str(node.settings.get("archive", {}).get("url") or node.home / "archive"))


def digests(files: Iterable[Path]) -> Counter[str]:
    """Return how often each Data Set is there, by its SHA-256."""
    return Counter(hashlib.sha256(data_set_bytes(path)).hexdigest() for path in files)


def private_information(path: Path) -> dict:
    """Return the arrival that a file records."""
    meta = pydicom.filereader.read_file_meta_info(path)
    said: dict = json.loads(meta[PRIVATE_INFORMATION].value)
    return said


def index_rows(node: Node) -> list[dict[str, str]]:
    """Return the rows of every SOP Instance in the index, in a fixed order."""
    lines = node.cli("find", "--level", "image", "--limit", "0", "--json").stdout.splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda row: sorted(row.items()))


def assert_index_equals_files(node: Node) -> None:
    """Verify every byte, then rebuild the index of the stopped node: nothing may change by it."""
    node.cli("verify")
    before = _all_that_the_index_says(node)
    node.cli("rebuild")
    after = _all_that_the_index_says(node)
    assert after == before
    assert len(visible(node)) == after["holdings"]["versions"]


def _all_that_the_index_says(node: Node) -> dict:
    status = node.json("status", exit_code=None)
    for key in ("last_verified_at", "never_verified"):  # a new index has verified nothing yet
        del status["holdings"][key]
    return {"rows": index_rows(node), "holdings": status["holdings"], "remarks": status["remarks"]}


def _files(node: Node) -> list[Path]:
    return sorted(path for path in archive_of(node).rglob("*") if path.is_file())


def decoder_processes(node: Node) -> list[int]:
    """Return the process IDs of the decoders that a node has started."""
    tasks = Path(f"/proc/{node.pid}/task").glob("*/children")
    children = [int(number) for each in tasks for number in each.read_text().split()]
    return [number for number in children if "decoder_worker" in Path(f"/proc/{number}/cmdline").read_text()]
