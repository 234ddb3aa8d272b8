"""What no honest client sends, to a node that runs: each of its routes answers in words, and its memory is bounded."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.media_types import parse_one
from tests.samples import dx, encode, uid
from tests.system.contents import staged, visible
from tests.system.node import Node
from tests.system.test_web_process import web_processes
from tests.system.test_web_store import MOST_MEMORY_BYTES, peak_memory_bytes
from tests.system.web import web_address, web_node
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, joined, part
from tests.web.test_hostile_requests import NO_UIDS, RANGES

SAMPLE = encode(dx())
JSON_PARTS = CONTENT_TYPE.replace("application/dicom", "application/dicom+json")
XML_PARTS = CONTENT_TYPE.replace("application/dicom", "application/dicom+xml")
MOST = 8 << 20  # of metadata in a request
UIDS = {"study": uid("1"), "series": uid("1", "1"), "instance": SAMPLE.sop_instance_uid, "transaction": "1.2.3"}
CONNECTIONS = 100
_NAME = re.compile(r"{(\w+)(?::\w+)?}")


def start(node: Node) -> Node:
    node.start()
    node.send([SAMPLE])
    return node


@pytest.fixture(scope="module")
def old_node(tmp_path_factory) -> Iterator[Node]:
    """Yield a node for all requests that need little memory: what one leaves behind, the next one meets."""
    folder = tmp_path_factory.mktemp("hostile")
    node = web_node(lambda **arguments: Node(folder / "node", **arguments))
    yield start(node)
    node.close()


@pytest.fixture
def neighbour(old_node) -> Iterator[httpx2.Client]:
    """A caller of that node."""
    with calling(old_node) as client:
        yield client


@pytest.fixture
def client(make_node) -> Iterator[httpx2.Client]:
    """The only caller of a node."""
    with calling(start(web_node(make_node))) as client:
        yield client


@contextlib.contextmanager
def calling(node: Node) -> Iterator[httpx2.Client]:
    """A caller; afterwards an honest one is served, by the same process, with bounded memory."""
    address = web_address(node)
    (process,) = web_processes(node)
    with httpx2.Client(base_url=address, timeout=300) as client:
        yield client
    answer = httpx2.get(f"{address}/studies", timeout=120)
    assert (answer.status_code, len(answer.json())) == (200, 1)
    assert web_processes(node) == [process]
    assert peak_memory_bytes(process) < MOST_MEMORY_BYTES
    assert (len(visible(node)), [file for file in staged(node) if file.stat().st_size > 1_000_000]) == (1, [])
    assert "Traceback" not in node.output
    assert "should not have happened" not in node.output


def assert_answered(answer: httpx2.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and answer.headers["content-type"] == "application/problem+json":
        assert len(answer.json()["detail"]) > 10


def filled_in(path: str, values: Mapping[str, str] = UIDS) -> str:
    """Return the path of a route with values for its names; those of a stored image where none are given."""
    return _NAME.sub(lambda found: values.get(found[1], "1"), path)


def paths(name: str) -> Iterator[tuple[str, str]]:
    """Yield each route with this in the place of each of its names."""
    for route in ROUTES:
        for hole in _NAME.findall(route.path):
            yield route.method, filled_in(route.path, UIDS | {hole: name})


def routes() -> set[tuple[str, str]]:
    return {(route.method, filled_in(route.path)) for route in ROUTES}


def test_what_is_no_uid_at_every_place_of_every_route(neighbour):
    for name in (name for name in NO_UIDS if name != ".."):  # a neighbour resolves that itself
        for method, path in paths(name):
            answer = neighbour.request(method, path, headers={"accept": "*/*"})
            finds_nothing = answer.status_code == 204 and method == "GET"
            assert finds_nothing or 400 <= answer.status_code < 500, (method, path, answer.status_code)
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "x" * 9000}, {"accept": ",".join(["a/b"] * 1000)}, {"accept": "*/*;q=nan"}, {"accept": ";;;"},
        {"accept": "multipart/related;" * 200}, {"if-none-match": '"' * 9000}, {"range": "bytes=" + "0-1," * 5000},
        {"if-range": "x" * 9000}, {"accept-charset": "x" * 9000}, {"content-type": ";;"}, {"x" * 9000: "y"},
    ],
    ids=lambda headers: str(headers)[:40],
)  # fmt: skip
def test_header_nonsense_at_every_route(neighbour, headers):
    for method, path in routes():
        assert_answered(neighbour.request(method, path, headers=headers))


def test_ranges_of_everything_that_has_bytes(neighbour):
    for asked in RANGES:
        for method, path in routes():
            if method == "GET":
                answer = neighbour.get(path, headers={"range": asked, "accept": "*/*"})
                assert_answered(answer)
                assert len(answer.content) < 4 * len(SAMPLE.data_set) + 20_000, (path, asked)


def value(tag: str, vr: str, text: str) -> str:
    return f'"{tag}":{{"vr":"{vr}","Value":[{text}]}}'


def image(more: str) -> bytes:
    ds = dx(study="2")
    uids = {"00080016": ds.SOPClassUID, "00080018": ds.SOPInstanceUID, "0020000D": ds.StudyInstanceUID}
    return f"{{{','.join(value(tag, 'UI', json.dumps(text)) for tag, text in uids.items())},{more}".encode()


def filled(piece: bytes, size: int = MOST - 5000) -> bytes:
    return piece * (size // len(piece))


METADATA = {
    "images without anything": (JSON_PARTS, b"[" + filled(b"{},") + b"{}]"),
    "numbers": (JSON_PARTS, image('"00282000":{"vr":"OB","Value":[') + filled(b"0,") + b"0]}}"),
    "strings": (JSON_PARTS, image('"00080008":{"vr":"CS","Value":[') + filled(b'"a",', 3_900_000) + b'"a"]}}'),
    "items": (JSON_PARTS, image('"00081140":{"vr":"SQ","Value":[') + filled(b"{},", 2_900_000) + b"{}]}}"),
    "lists in lists": (JSON_PARTS, filled(b"[")),
    "one long text": (JSON_PARTS, image('"00104000":{"vr":"LT","Value":["') + filled(b"x") + b'"]}}'),
    "bulk data in the JSON": (JSON_PARTS, image('"7FE00010":{"vr":"OB","InlineBinary":"') + filled(b"AAAA") + b'!"}}'),
    "items of XML": (
        XML_PARTS,
        b'<NativeDicomModel><DicomAttribute tag="00081140" vr="SQ">'
        + b"".join(b'<Item number="%d"/>' % number for number in range(1, 340_000))
        + b"</DicomAttribute></NativeDicomModel>",
    ),
    "values of XML": (
        XML_PARTS,
        b'<NativeDicomModel><DicomAttribute tag="00080008" vr="CS">'
        + b"".join(b'<Value number="%d">a</Value>' % number for number in range(1, 250_000))
        + b"</DicomAttribute></NativeDicomModel>",
    ),
    "an attribute of XML": (XML_PARTS, b'<NativeDicomModel><DicomAttribute tag="' + filled(b"0") + b'"/>'),
}


@pytest.mark.parametrize(("content_type", "content"), METADATA.values(), ids=METADATA)
def test_metadata_that_grow(client, content_type, content):
    media_type = parse_one(content_type).root
    answer = client.post("studies", content=joined([part(content, media_type)]), headers={"content-type": content_type})
    assert answer.status_code in {400, 409, 413}, answer.text[:200]


def bomb(chunk: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield chunk


@pytest.mark.parametrize(
    ("chunk", "count"),
    [
        (part(b"") * 1000, 100), (f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * 10_000, 20), (b"\r\n" * 65536, 200),
        (f"\r\n--{BOUNDARY}".encode() * 10_000, 100), (part(SAMPLE.file_bytes()[:400])[:-2] + b"x" * 100_000, 200),
    ],
    ids=["parts", "headers", "lines", "boundaries", "parts that are longer than they say"],
)  # fmt: skip
def test_multipart_bombs(client, chunk, count):
    with contextlib.suppress(httpx2.TransportError):  # it may be told while it still sends
        assert_answered(client.post("studies", content=bomb(chunk, count), headers={"content-type": CONTENT_TYPE}))


def test_a_gzip_bomb(client):
    packed = gzip.compress(bytes(100_000_000), 9)
    for path, content_type in (("studies", CONTENT_TYPE), ("commitment-requests/1.2.3", "application/dicom+json")):
        headers = {"content-type": content_type, "content-encoding": "gzip"}
        assert client.post(path, content=packed, headers=headers).status_code == 415


def test_a_commitment_of_more_images_than_are_listed(client):
    item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081155": {"vr": "UI", "Value": ["1.2.3"]}}
    one = json.dumps(item, separators=(",", ":")).encode()
    content = b'{"00081199":{"vr":"SQ","Value":[' + filled(one + b",", (4 << 20) - 500) + one + b"]}}"
    headers = {"content-type": "application/dicom+json"}
    assert client.post("commitment-requests/1.2.3.4", content=content, headers=headers).status_code == 413


def connection(client: httpx2.Client) -> socket.socket:
    parts = urlsplit(str(client.base_url))
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def answered(caller: socket.socket, sent: bytes) -> int:
    """Send it, and return the status of the answer; 0 when the connection was closed instead."""
    with contextlib.suppress(OSError):
        caller.sendall(sent)
    with contextlib.suppress(OSError):
        line = caller.recv(4096)
        return int(line.split()[1]) if line else 0
    return 0


def raw(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: 127.0.0.1", *headers, "", ""]).encode("latin-1") + body


def test_a_hundred_thousand_keys(client):
    query = "&".join(f"PatientID={number}" for number in range(100_000))
    for path in ("studies", "wado", "inventories"):
        with connection(client) as caller:
            assert 400 <= answered(caller, raw(f"GET /dicom-web/{path}?{query} HTTP/1.1")) < 500
    many = [f"X-{number}: y" for number in range(30_000)]
    with connection(client) as caller:
        assert answered(caller, raw("GET /dicom-web/studies HTTP/1.1", *many)) in {200, 431}


@pytest.mark.parametrize(
    "sent",
    [
        raw("POST /dicom-web/studies HTTP/1.1", "Content-Length: -1"),
        raw("POST /dicom-web/studies HTTP/1.1", "Content-Length: 99999999999999999999999"),
        raw("POST /dicom-web/studies HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        raw("POST /dicom-web/studies HTTP/1.1", "Transfer-Encoding: chunked", body=b"ffffffffffffffffff\r\n"),
        raw("POST /dicom-web/studies HTTP/1.1", "Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
        raw("GET /dicom-web/studies HTTP/9.9"), raw("GET  HTTP/1.1"), b"\x16\x03\x01\x02\x00", b"\0" * 1000,
        raw("GET /dicom-web/studies\x00 HTTP/1.1"), raw("GET http://elsewhere.example/dicom-web/studies HTTP/1.1"),
        raw("CONNECT elsewhere.example:443 HTTP/1.1"), raw("GET /dicom-web/studies HTTP/1.1", "Host: another"),
    ],
    ids=lambda sent: sent[:50].decode("latin-1").replace("\0", "0"),
)  # fmt: skip
def test_http_nonsense(neighbour, sent):
    with connection(neighbour) as caller:
        caller.settimeout(20)
        caller.sendall(sent)
        caller.shutdown(socket.SHUT_WR)
        assert answered(caller, b"") < 500


def held_open(client: httpx2.Client, sent: bytes) -> contextlib.ExitStack:
    """Open many connections that have sent this, and wait."""
    stack = contextlib.ExitStack()
    for _ in range(CONNECTIONS):
        caller = stack.enter_context(connection(client))
        caller.sendall(sent)
    return stack


@pytest.mark.parametrize(
    "sent",
    [
        raw("GET /dicom-web/studies HTTP/1.1")[:-4],
        raw(
            "POST /dicom-web/studies HTTP/1.1", f"Content-Type: {CONTENT_TYPE}", "Content-Length: 9999999999",
            body=part(SAMPLE.file_bytes())[:-20] + bytes(100_000),
        ),
        raw(
            "POST /dicom-web/studies HTTP/1.1", f"Content-Type: {JSON_PARTS}", "Content-Length: 9999999999",
            body=part(b"[" * 100_000, "application/dicom+json"),
        ),
        raw("POST /dicom-web/commitment-requests/1.2.5 HTTP/1.1", "Content-Type: application/dicom+json",
            "Content-Length: 9999999", body=bytes(100_000)),
    ],
    ids=["half a header", "half an image", "half metadata", "half a commitment"],
)  # fmt: skip
def test_many_that_send_no_more(client, sent):
    """Others are served meanwhile; tests/web has the limits in time."""
    with held_open(client, sent):
        answer = client.get("studies")
        assert answer.status_code == 200


def test_many_that_read_no_more(client):
    """Answers that nobody reads wait outside of memory."""
    path = f"/dicom-web/studies/{uid('1')}"
    with held_open(client, raw(f"GET {path} HTTP/1.1", "Accept: */*")):
        assert client.get("studies").status_code == 200


def test_many_large_requests_at_once(client):
    content = joined([part(METADATA["one long text"][1], "application/dicom+json")])

    def send(_number: int) -> int:
        return httpx2.post(
            f"{client.base_url}studies", content=content, headers={"content-type": JSON_PARTS}, timeout=300
        ).status_code

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(send, range(10))) <= {400, 409, 413, 503}
