"""A long body is received into the same memory over and over: what is stored are the bytes that came."""

from __future__ import annotations

import sys

import pytest

from backup_scp.web.app import application
from backup_scp.web.dicomweb.stow.multipart_reader import MultipartReader
from backup_scp.web.options import WebOptions
from tests.samples import dx, encode
from tests.web.conftest import stores_of
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, body, part
from tests.web.stow.test_store_instances import bytes_of, held
from tests.web.test_direct_socket import received, status_of  # noqa: F401 - a fixture
from tests.web.test_web_server import connect, serving

ALMOST = b"\r\n--" + BOUNDARY.encode()[:-1]
LINES = [b"\r", b"\n", b"\r\n", b"\r\n-", b"\r\r\n--", ALMOST, ALMOST + b"\r\n"]
NEARLY_BOUNDARIES = b"".join(line + bytes([number]) * 7 for number in range(256) for line in LINES)
PIXELS = NEARLY_BOUNDARIES * (9_000_001 // len(NEARLY_BOUNDARIES))  # not a divisor of any memory: cut everywhere


def head(size: int) -> bytes:
    lines = ["POST /dicom-web/studies HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {CONTENT_TYPE}"]
    return "\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode()


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows asyncio receives")
def test_images_one_after_the_other_and_beside_each_other(stored, received):  # noqa: F811
    samples = [encode(dx(number=number, PixelData=PIXELS + bytes([number]) * 1000)) for number in range(6)]
    bodies = [body(*(sample.file_bytes() for sample in samples[at : at + 2])) for at in (0, 2, 4)]
    with (
        serving(application(stores_of(stored), WebOptions()), WebOptions()) as port,
        connect(port) as one,
        connect(port) as other,
    ):
        for client, content in ((one, bodies[0]), (other, bodies[1])):
            client.sendall(head(len(content)))
        for at in range(0, max(map(len, bodies)), 300_007):
            one.sendall(bodies[0][at : at + 300_007])
            other.sendall(bodies[1][at : at + 300_007])
        assert [status_of(one), status_of(other)] == [200, 200]
        one.sendall(head(len(bodies[2])) + bodies[2])
        assert status_of(one) == 200
    assert len(received) == 3
    assert {file.sha256: bytes_of(file) for file in held(stored)} == {s.sha256: s.data_set for s in samples}


class Hashing:
    """Takes a part, and notes when it may no longer read what it took before."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, headers):
        self.calls.append("begin")

    def write(self, data):
        self.calls.append("write")

    def end(self):
        self.calls.append("end")


@pytest.mark.parametrize("begun", ["\r", "\r\n--", f"\r\n--{BOUNDARY}", f"\r\n--{BOUNDARY}-"])
def test_a_piece_without_data_ends_the_use_of_the_one_before(begun):
    taker = Hashing()
    reader = MultipartReader(BOUNDARY, taker)
    reader.feed([part(b"x" * 1000)[:-2]])
    taker.calls.clear()
    reader.feed([bytearray(begun.encode())])
    assert taker.calls == ["write"]


def test_a_piece_with_data_is_not_waited_for():
    taker = Hashing()
    reader = MultipartReader(BOUNDARY, taker)
    reader.feed([part(b"x" * 1000)[:-2]])
    taker.calls.clear()
    reader.feed([bytearray(1000)])
    assert taker.calls == ["write"]
