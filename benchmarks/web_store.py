"""Measure STOW-RS: images of a DR console, one a request, from one client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

from pydicom.uid import ExplicitVRLittleEndian

from backup_scp.dicom.inventory import text_element
from benchmarks import images

IMAGES = 20
_BOUNDARY = "the-boundary"
_HEADERS = {
    "Accept": "application/dicom+json",
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
}


def body(instance: images.Instance) -> Iterator[bytes | memoryview]:
    """Yield the body of a request that stores one image."""
    yield f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + bytes(128) + b"DICM"
    yield text_element(0x00020002, "UI", instance.sop_class)
    yield text_element(0x00020003, "UI", instance.sop_instance)
    yield text_element(0x00020010, "UI", ExplicitVRLittleEndian)
    yield from instance.parts
    yield f"\r\n--{_BOUNDARY}--\r\n".encode()


def stow_rate(port: int, kind: images.Kind = images.DR, count: int = IMAGES) -> float:
    """Return images a second; each is stored when its answer has come."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = 0.0
    for number, instance in enumerate(images.new(kind, count + 1)):
        began = time.perf_counter() if number == 1 else began  # the first one opens the connection
        length = sum(map(len, body(instance)))
        headers = _HEADERS | {"Content-Length": str(length)}
        connection.request("POST", "/dicom-web/studies", body(instance), headers)
        with connection.getresponse() as answer:
            answer.read()
            if answer.status != http.client.OK:
                raise SystemExit(f"STOW-RS is answered with {answer.status}")
    passed = time.perf_counter() - began
    connection.close()
    return count / passed
