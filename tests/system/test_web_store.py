"""Images that come over the web are those that leave over DIMSE; a large one takes no more memory than a small one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from dicomweb_client.api import DICOMwebClient

from tests.processes import wait_until
from tests.samples import data_set_of, dx, encode, odd_identities, one_of_each, pydicom_samples, uid
from tests.system.contents import staged, visible
from tests.system.peers import movescu
from tests.system.test_web_process import web_processes
from tests.system.web import web_address, web_node
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, body, part

MOST_MEMORY_BYTES = 150_000_000
CHUNK = bytes(range(256)) * 4096
CHUNKS = 300
BEYOND_STORESCP = {"image_dfl.dcm", "private Transfer Syntax"}
"""It packs what is deflated anew, and takes no private Transfer Syntax."""


@pytest.fixture
def node(make_node, storescp):
    node = web_node(make_node, remotes=[storescp.remote])
    node.start()
    return node


def store(node, content, timeout=120) -> httpx2.Response:
    headers = {"content-type": CONTENT_TYPE}
    return httpx2.post(f"{web_address(node)}/studies", content=content, headers=headers, timeout=timeout)


def peak_memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def test_a_foreign_client_stores_a_study_and_movescu_brings_it_back(node, storescp):
    samples = [encode(ds) for ds in one_of_each("1")]
    answer = store(node, body(*(sample.file_bytes() for sample in samples)))
    assert (answer.status_code, len(answer.json()["00081199"]["Value"])) == (200, len(samples))

    foreign = DICOMwebClient(web_address(node)).store_instances([encode(dx(study="2")).dataset()])
    assert foreign.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dx(study="2").SOPInstanceUID

    moved = movescu(node, "SINK", "STUDY", {"StudyInstanceUID": uid("1")})
    assert (moved.status, moved.completed) == (0, len(samples))
    assert storescp.data_sets() == sorted(sample.data_set for sample in samples)


def test_every_sample_comes_back_byte_for_byte(node, storescp):
    samples = {sample.sha256: sample for sample in (*pydicom_samples(), *odd_identities())}
    answer = store(node, body(*(sample.file_bytes() for sample in samples.values())))
    assert answer.status_code == 200
    listed = {json.loads(line)["sha256"] for line in node.cli("find", "--level", "image", "--versions", "all",
              "--limit", "0", "--json").stdout.splitlines()}  # fmt: skip
    assert listed == set(samples)
    assert node.cli("verify").stdout

    urls = [item["00081190"]["Value"][0] for item in answer.json()["00081199"]["Value"] if "00081190" in item]
    accept = {"accept": "application/dicom; transfer-syntax=*"}
    with httpx2.Client(headers=accept, timeout=120) as client:
        files = [client.get(url).content for url in urls]
    fetched = {hashlib.sha256(data_set_of(file)).hexdigest() for file in files}
    answering = node.cli("find", "--level", "image", "--limit", "0", "--json").stdout.splitlines()
    named = [image for image in map(json.loads, answering) if image["StudyInstanceUID"] and image["SeriesInstanceUID"]]
    assert fetched <= set(samples)
    assert len(fetched) == len(set(urls)) > len(named) - 10, "but for images whose UIDs are no UIDs"

    studies = sorted({url.partition("/studies/")[2].partition("/")[0] for url in urls})
    moved = movescu(node, "SINK", "STUDY", {"StudyInstanceUID": "\\".join(studies)})
    arrived = {hashlib.sha256(data_set).hexdigest() for data_set in storescp.data_sets()}
    elsewhere = {sha256 for sha256 in fetched - arrived if samples[sha256].name in BEYOND_STORESCP}
    assert (fetched - arrived, moved.failed) == (elsewhere, 1)


def large(count: int) -> Iterator[bytes]:
    """Yield a request with an image of that many megabytes."""
    file = encode(dx(PixelData=b"")).file_bytes()
    length = (count * len(CHUNK)).to_bytes(4, "little")
    yield part(file[:-4] + length)[:-2]
    for _ in range(count):
        yield CHUNK
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def test_a_large_image_takes_no_memory(node):
    answer = store(node, large(CHUNKS), timeout=600)
    assert answer.status_code == 200
    (process,) = web_processes(node)
    assert peak_memory_bytes(process) < MOST_MEMORY_BYTES
    (file,) = visible(node)
    assert file.stat().st_size > CHUNKS * len(CHUNK)


def test_what_was_answered_survives_a_kill_and_the_rest_leaves_nothing(node):
    sample = encode(dx())
    assert store(node, body(sample.file_bytes())).status_code == 200
    (process,) = web_processes(node)

    def broken() -> Iterator[bytes]:
        yield part(encode(dx(study="2")).file_bytes())
        yield from list(large(20))[:-1]
        wait_until(lambda: len(visible(node)) == 2, what="the first image, stored before the second has come")
        os.kill(process, signal.SIGKILL)
        yield CHUNK

    with pytest.raises(httpx2.HTTPError):
        store(node, broken())
    wait_until(lambda: web_processes(node) not in ([], [process]), what="another process")
    assert store(node, body(encode(dx(study="3")).file_bytes())).status_code == 200
    assert len(visible(node)) == 3
    wait_until(lambda: not [file for file in staged(node) if file.stat().st_size > 1_000_000], what="empty staging")
    assert json.loads(node.cli("find", "--json", "--study", uid("2")).stdout.splitlines()[0])
