"""A 2 GB multi-frame object: stored, found, verified and sent back, with constant memory."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.samples import Sample, encode, instance, with_pixels
from tests.system.contents import private_information, staged, visible
from tests.system.peers import findscu, movescu
from tests.system.raw_sender import Association

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ROWS = COLUMNS = 1024
FRAME_BYTES = ROWS * COLUMNS * 2
FRAMES = 1024
PIXEL_BYTES = FRAMES * FRAME_BYTES  # 2 GiB: one more than a signed 32 bit length holds
MOST_MEMORY_BYTES = 150_000_000


def heading() -> Sample:
    """Return the object without the frames: the Data Set up to the length of Pixel Data."""
    ds = instance(ENHANCED_CT, Modality="CT")
    with_pixels(ds, 2, 2)
    ds.Rows, ds.Columns, ds.NumberOfFrames = ROWS, COLUMNS, str(FRAMES)
    sample = encode(ds, ExplicitVRLittleEndian)
    start = sample.data_set.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, PIXEL_BYTES)
    return dataclasses.replace(sample, data_set=sample.data_set[:start] + header)


def frames() -> Iterator[bytes]:
    """Yield the frames, each different, none held longer than it takes to send it."""
    ramp = bytes(range(256)) * (FRAME_BYTES // 256)
    for number in range(FRAMES):
        yield struct.pack("<Q", number) + ramp[8:]


def pieces(sample: Sample, digest) -> Iterator[bytes]:
    """Yield the whole Data Set, hashing what goes out."""
    for piece in itertools.chain([sample.data_set], frames()):
        digest.update(piece)
        yield piece


def digest_of_data_set(path: Path, size: int) -> str:
    """Hash the last `size` bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(path.stat().st_size - size)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@pytest.fixture
def room(tmp_path):
    """Skip where the disk cannot hold the object twice; leave nothing behind."""
    free = shutil.disk_usage(tmp_path).free
    if free < 3 * PIXEL_BYTES:
        pytest.skip(f"needs {3 * PIXEL_BYTES / 1e9:.0f} GB of free disk, there are {free / 1e9:.0f}")
    yield tmp_path
    for path in tmp_path.rglob("*.dcm"):
        path.unlink()


@pytest.mark.timeout(900)
def test_two_gigabytes_in_and_out(start_node, start_storescp, room):
    storescp = start_storescp()
    node = start_node(remotes=[storescp.remote])
    sample, digest = heading(), hashlib.sha256()
    size = len(sample.data_set) + PIXEL_BYTES

    contexts = [(sample.sop_class_uid, [sample.transfer_syntax_uid])]
    with Association(node, contexts, max_pdu=131072, timeout_s=300) as sender:
        answer = sender.store(sample, pieces(sample, digest))
    assert (answer.status, answer.error_comment) == (0, "")
    assert node.peak_memory_bytes() < MOST_MEMORY_BYTES

    (path,) = visible(node)
    assert private_information(path)["sha256"] == digest.hexdigest()
    assert private_information(path)["size"] == size
    assert staged(node) == []
    (found,) = findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "NumberOfFrames": ""})
    assert found.NumberOfFrames == FRAMES
    node.cli("verify")

    (restored,) = node.restored(room / "back")
    assert digest_of_data_set(restored, size) == digest.hexdigest()
    restored.unlink()

    moved = movescu(node, "SINK", "STUDY", {"StudyInstanceUID": sample.dataset().StudyInstanceUID})
    assert (moved.status, moved.completed, moved.failed) == (0, 1, 0)
    (received,) = storescp.files()
    assert digest_of_data_set(received, size) == digest.hexdigest()
    received.unlink()
    assert node.peak_memory_bytes() < MOST_MEMORY_BYTES
