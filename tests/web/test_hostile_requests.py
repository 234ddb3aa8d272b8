"""Requests that no honest client sends: each is refused in words, leaves nothing behind, and the next one is served."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import tracemalloc

import pytest
from starlette.requests import Request

from backup_scp.dicom.attributes import Level
from backup_scp.errors import InvalidIdentifier
from backup_scp.web.dicomweb.qido.parameters import read_search
from backup_scp.web.dicomweb.request_body import batches
from backup_scp.web.dicomweb.stow import multipart_reader
from backup_scp.web.dicomweb.stow.multipart_reader import MultipartReader
from backup_scp.web.direct_socket import BodyLimits
from backup_scp.web.problems import Problem
from tests.samples import dx, encode, uid
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, body, joined, part
from tests.web.stow.test_store_instances import held, staged

IMAGE = encode(dx()).file_bytes()
INSTANCE = f"/studies/{uid('1')}/series/{uid('1', '1')}/instances/{encode(dx()).sop_instance_uid}"
JSON_PARTS = CONTENT_TYPE.replace("application/dicom", "application/dicom+json")
NO_UIDS = [
    "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "1.2.3%00", "1.2.3%0d%0aSet-Cookie:%20a=b", "'%20OR%201=1--",
    "1." * 5000, "%", "*", "1.2.3;x=y", "%c3%bc", "%ff", "1.2.3%5c1.2.4", "-1", "1e9", "\u0661.2", "C:%5c",
]  # fmt: skip

RANGES = [
    "bytes=", "bytes=-", "bytes=5-2", "bytes=-0", f"bytes={10**30}-", "bytes=0-,0-,0-", "bytes=a-b", "lines=1-2",
    "bytes=" + ",".join(f"{at}-{at}" for at in range(5000)), "bytes=0-0,-1", "bytes=--1", "bytes=1-2-3",
]  # fmt: skip

HEADERS = [
    {"content-type": "multipart/related;" + ";" * 5000},
    {"content-type": 'multipart/related; type="application/dicom"; boundary="' + "x" * 9000 + '"'},
    {"content-type": "multipart/related; type=application/dicom; boundary="},
    {"content-type": 'multipart/related; type="application/dicom'},
    {"content-type": "\x00/\x00"},
    {"content-type": "multipart/related; type=application/dicom; boundary=é"},
    {"content-type": CONTENT_TYPE, "content-encoding": "gzip"},
    {"content-type": CONTENT_TYPE, "content-encoding": "br, gzip, zstd"},
    {"content-type": CONTENT_TYPE, "accept": "x" * 9000},
    {"content-type": CONTENT_TYPE, "accept": "application/dicom+json;q=nan"},
    {"content-type": CONTENT_TYPE, "accept": ",".join(["a/b"] * 1000)},
    {"content-type": CONTENT_TYPE, "host": "evil.example"},
    {"content-type": CONTENT_TYPE, "host": "127.0.0.1@evil.example"},
    {"content-type": CONTENT_TYPE, "authorization": "Bearer " + "x" * 9000},
    {"content-type": CONTENT_TYPE, "origin": "https://evil.example"},
]

BODIES = {
    "no boundary in it": b"x" * 100_000,
    "another boundary": body(IMAGE).replace(BOUNDARY.encode(), b"other"),
    "nothing but boundaries": f"--{BOUNDARY}\r\n".encode() * 1000,
    "a header without end": f"--{BOUNDARY}\r\nContent-Type: ".encode() + b"x" * 100_000,
    "headers without end": f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * 10_000,
    "a header without a colon": f"--{BOUNDARY}\r\nContent-Type\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
    "a line of zeros": bytes(100_000),
    "a header of NULs": f"--{BOUNDARY}\r\n\0\0: \0\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
    "cut off": body(IMAGE)[:-30],
    "packed": gzip.compress(body(IMAGE)),
    "no images": joined([part(b"x")] * 1000),
    "a message in a message": joined([part(body(IMAGE), CONTENT_TYPE)]),
    "File Meta that is longer than its file": joined([part(IMAGE[:132] + b"\2\0\0\1OB\0\0\xff\xff\xff\xff")]),
    "an element that is longer than its file": joined([part(IMAGE[:400])]),
}


@pytest.fixture(autouse=True)
def serves_the_next(web, stored, tmp_path):
    """Compare afterwards: nothing is left in staging, and an honest request is served."""
    yield
    assert len(staged(tmp_path)) <= len(held(stored)), "more than the notes of what is stored"
    assert web.get("/studies?limit=1").status_code in {200, 204}


def assert_refused(answer) -> None:
    assert 400 <= answer.status_code < 500, answer.status_code
    if answer.headers["content-type"] == "application/problem+json":
        assert len(answer.json()["detail"]) > 10
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/studies/{}", "/commitment-requests/{}"])
def test_what_is_no_uid_is_not_stored_into(web, stored, path):
    headers = {"content-type": CONTENT_TYPE if path == "/studies/{}" else "application/dicom+json"}
    for name in NO_UIDS:
        assert_refused(web.post(path.format(name), content=body(IMAGE), headers=headers))
    assert held(stored) == []


@pytest.mark.parametrize(
    "path",
    ["/studies/{}", "/studies/{}/metadata", "/studies/1.2/series/{}", "/studies/1.2/series/1.3/instances/{}",
     "/inventories/{}", "/commitment-requests/{}"],
)  # fmt: skip
def test_what_is_no_uid_is_not_found(web, path):
    for name in NO_UIDS:
        assert_refused(web.get(path.format(name)))


STUDY = "/studies/{}"
SERIES = "/studies/1.2/series/{}"
IMAGE_OF = "/studies/1.2/series/1.3/instances/{}"


@pytest.mark.parametrize("name", ["foo", "1.2.x", "1..2", "1.2.", "-1", "1" * 65, "%c3%bc"])
@pytest.mark.parametrize(
    "path",
    [STUDY, f"{STUDY}/metadata", f"{STUDY}/rendered", f"{STUDY}/thumbnail", f"{STUDY}/series", f"{STUDY}/instances",
     f"{STUDY}/series?limit=1", f"{STUDY}/series/1.3/instances", SERIES, f"{SERIES}/metadata", f"{SERIES}/instances",
     IMAGE_OF, f"{IMAGE_OF}/frames/1", f"{IMAGE_OF}/rendered", f"{IMAGE_OF}/bulkdata/7fe00010",
     "/wado?requestType=WADO&studyUID={}&seriesUID=1.3&objectUID=1.4", "/inventories/{}", "/commitment-requests/{}"],
)  # fmt: skip
def test_what_is_no_uid_is_400_and_not_empty(web, path, name):
    answer = web.get(path.format(name))
    assert answer.status_code == 400, answer.text
    assert "UID" in answer.json()["detail"]


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: str(headers)[:60])
def test_headers(web, stored, headers):
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    assert_refused(web.post("/studies", content=body(IMAGE), headers=sent))
    assert held(stored) == []


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("content_type", [CONTENT_TYPE, JSON_PARTS])
def test_bodies(web, stored, content, content_type):
    answer = web.post("/studies", content=content, headers={"content-type": content_type})
    if content is BODIES["an element that is longer than its file"] and content_type is CONTENT_TYPE:
        assert answer.status_code in {200, 409}, "what a sender cut off is kept and flagged, or refused: never lost"
        return
    assert_refused(answer)
    assert held(stored) == []


def test_more_parts_than_are_counted(web, stored, monkeypatch):
    monkeypatch.setattr(multipart_reader, "MOST_PARTS", 50)
    answer = web.post("/studies", content=joined([part(b"x")] * 60), headers={"content-type": CONTENT_TYPE})
    assert answer.status_code == 413
    parts = [part(IMAGE), *[part(b"x")] * 60]
    answer = web.post("/studies", content=joined(parts), headers={"content-type": CONTENT_TYPE})
    assert (answer.status_code, len(held(stored))) == (202, 1)


class _Nothing:
    def begin(self, headers):
        pass

    def write(self, data):
        pass

    def end(self):
        pass


@pytest.mark.parametrize(
    "chunk",
    [b"x" * 65536, b"\r\n" * 32768, b"--" * 32768, f"\r\n--{BOUNDARY}".encode() * 4000, part(b"") * 20],
    ids=["data", "lines", "dashes", "almost boundaries", "parts"],
)
def test_a_body_without_end_takes_no_memory(chunk):
    reader = MultipartReader(BOUNDARY, _Nothing())
    reader.feed([part(b"x")[:-2]])
    tracemalloc.start()
    with contextlib.suppress(Problem):  # too many parts, or malformed
        for _ in range(500):  # 32 MB
            reader.feed([chunk])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4_000_000


def test_thousands_of_parts_that_are_no_images_take_little_memory(web):
    content = joined([part(b"x")] * 5000)
    tracemalloc.start()
    assert_refused(web.post("/studies", content=content, headers={"content-type": CONTENT_TYPE}))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


def test_what_stands_before_and_behind_has_an_end():
    reader = MultipartReader(BOUNDARY, _Nothing())
    with pytest.raises(Problem):
        reader.feed(itertools.repeat(b"x" * 1000, 100))
    reader = MultipartReader(BOUNDARY, _Nothing())
    reader.feed([joined([part(b"x")])])
    with pytest.raises(Problem):
        reader.feed(itertools.repeat(b"x" * 1000, 100))


def test_a_hundred_thousand_keys(web):
    for query in (
        "&".join(f"PatientID={number}" for number in range(100_000)),
        "&".join(f"{number:08X}=x" for number in range(100_000)),
        "includefield=" + ",".join(["x"] * 100_000),
    ):
        assert_refused(web.get("/studies", params=query[:20_000]))  # more than that httpx does not send
        with pytest.raises((Problem, InvalidIdentifier)):
            read_search(query.encode(), Level.STUDY, {})


def test_json_without_bounds(web, stored):
    deep = b'{"00081115":{"vr":"SQ","Value":[' * 5_000
    wide = json.dumps([{}] * 20_000).encode()
    for content in (deep, wide, b"[" * 100_000):
        answer = web.post(
            "/studies", content=joined([part(content, "application/dicom+json")]), headers={"content-type": JSON_PARTS}
        )
        assert_refused(answer)
        assert_refused(
            web.post("/commitment-requests/1.2.3", content=content, headers={"content-type": "application/dicom+json"})
        )


def test_ranges(web, stored):
    stored.put(encode(dx()))
    for asked in RANGES:
        answer = web.get(INSTANCE, headers={"range": asked, "accept": "application/dicom"})
        assert answer.status_code in {200, 206, 400, 416}, asked
        assert len(answer.content) < 3 * len(IMAGE), asked


def requested(*messages, then: float = 0.0) -> Request:
    """Return a request whose body comes in these pieces, and then takes so long."""
    pieces = iter(messages)

    async def receive():
        piece = next(pieces, None)
        if piece is None:
            await asyncio.sleep(then)
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": True}

    return Request({"type": "http", "headers": []}, receive)


def read(request: Request, limits: BodyLimits) -> list[bytes]:
    async def collect():
        return [chunk async for batch in batches(request, limits) for chunk in batch]

    return asyncio.run(collect())


def test_a_body_that_stops():
    with pytest.raises(Problem) as raised:
        read(requested(b"x", then=3600), BodyLimits(silence_s=0.01))
    assert raised.value.status == 408


def test_a_body_that_trickles():
    with pytest.raises(Problem) as raised:
        read(requested(*[b"x"] * 100), BodyLimits(grace_s=0, least_bytes_per_s=1e12))
    assert raised.value.status == 408


def test_a_caller_that_has_gone():
    with pytest.raises(Problem) as raised:
        read(requested(b"x"), BodyLimits())
    assert raised.value.status == 400
