"""Attacks on DICOMweb and the page, by those who have a token and those who have none."""

from __future__ import annotations

import contextlib
import json
import re
from random import Random

import httpx2

from tests.fuzz import web_bodies
from tests.system.probes.target import TOKEN, USER, Target, at_once, form_of, held
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, joined, part

_JSON_PARTS = CONTENT_TYPE.replace("application/dicom", "application/dicom+json")
_KNOWN = {"authorization": f"Bearer {TOKEN}"}
_MOST_METADATA = 8 << 20
_PARTS = 20_000


def _raw(line: str, *headers: str, body: bytes = b"") -> bytes:
    known = f"Authorization: Bearer {TOKEN}"
    return "\r\n".join([line, "Host: 127.0.0.1", known, *headers, "", ""]).encode("latin-1") + body


def half_requests(target: Target) -> None:
    """Half a header, a header byte by byte, half a body: 300 connections (slowloris)."""
    whole = _raw("GET /dicom-web/studies HTTP/1.1")
    body = part(bytes(20_000))[:-20]
    post = _raw(
        "POST /dicom-web/studies HTTP/1.1", f"Content-Type: {CONTENT_TYPE}", "Content-Length: 99999999", body=body
    )
    with held(target, 300, [b"", whole[:10], whole[:-2], post], target.web_port):
        target.hold()
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(target.connect(target.web_port)) for _ in range(20)]
        for at in range(len(whole) - 4):
            for caller in callers:
                with contextlib.suppress(ConnectionError):
                    caller.sendall(whole[at : at + 1])
        target.hold()


def huge_headers(target: Target) -> None:
    """A header of a megabyte, 30,000 headers, a line of a megabyte."""
    get = "GET /dicom-web/studies HTTP/1.1"
    requests = [
        _raw(get, "X: " + "y" * 1_000_000),
        _raw(get, *[f"X-{number}: y" for number in range(30_000)]),
        _raw(f"GET /dicom-web/studies?{'PatientID=x&' * 90_000} HTTP/1.1"),
        _raw(f"GET /{'x/' * 500_000} HTTP/1.1"),
    ]
    at_once(lambda number: target.send(requests[number % len(requests)], target.web_port), 40)


def many_ranges(target: Target) -> None:
    """Ranges without number, of all that has bytes, and headers that ask for everything at once."""
    ranges = "bytes=" + ",".join(f"{at}-{at}" for at in range(1000))
    headers = [
        {"range": ranges},
        {"accept": ",".join(["multipart/related; type=application/dicom"] * 180)},
        {"if-none-match": ",".join(['"x"'] * 1800)},
    ]
    with _client(target) as client:

        def ask(number: int) -> None:
            for path in ("dicom-web/studies", "dicom-web/inventories", "static/page.css", ""):
                _require_answered(client.get(path, headers=headers[number % len(headers)]))

        at_once(ask, 60)


def many_parts(target: Target) -> None:
    """STOW-RS with 20,000 parts that are no images."""
    content = joined([part(b"x")] * _PARTS)
    with _client(target) as client:

        def store(_: int) -> None:
            with contextlib.suppress(httpx2.TransportError):
                answer = client.post("dicom-web/studies", content=content, headers={"content-type": CONTENT_TYPE})
                assert 400 <= answer.status_code < 500, answer.text[:200]

        at_once(store, 4, callers=2)


def large_metadata(target: Target) -> None:
    """STOW-RS with metadata that grow: lists in lists, empty items, numbers; as much as one may send."""
    texts = [
        b"[" * _MOST_METADATA,
        b"[" + b"{}," * (_MOST_METADATA // 4) + b"{}]",
        b'[{"00282000":{"vr":"OB","Value":[' + b"0," * (_MOST_METADATA // 3) + b"0]}}]",
    ]
    contents = [joined([part(text[: _MOST_METADATA - 1000], "application/dicom+json")]) for text in texts]
    with _client(target) as client:

        def store(number: int) -> None:
            content = contents[number % len(contents)]
            answer = client.post("dicom-web/studies", content=content, headers={"content-type": _JSON_PARTS})
            assert answer.status_code in {400, 409, 413, 503}, answer.text[:200]

        at_once(store, 3, callers=3)


def login_guesses(target: Target) -> None:
    """Passwords that are guessed, and tokens."""
    with _client(target, known=False) as client:

        def guess(number: int) -> None:
            headers = {"authorization": f"Bearer {number:032}"}
            assert client.get("dicom-web/studies", headers=headers).status_code in {401, 429}

        form = form_of(client, "login") | {"next": "/"}

        def log_in(number: int) -> None:
            name = USER if number % 2 else f"nobody {number}"
            answer = client.post("login", data=form | {"name": name, "password": f"guess {number}"})
            assert answer.status_code in {403, 429}

        at_once(log_in, 6)
        at_once(guess, 200)


def seeded_bodies(target: Target) -> None:
    """Bodies and query strings that break the rules, as `make fuzz` makes them."""
    with _client(target) as client:

        def send(number: int) -> None:
            rng = Random(f"probe:{number}")
            query = web_bodies.query_string(rng)
            line = b"GET /dicom-web/studies?" + re.sub(rb"[\s\0]", b"%20", query) + b" HTTP/1.1\r\n"
            target.send(line + _raw("").partition(b"\r\n")[2], target.web_port)
            content = web_bodies.multipart(rng, BOUNDARY)
            answer = client.post("dicom-web/studies", content=content, headers={"content-type": CONTENT_TYPE})
            _require_answered(answer)
            text = json.dumps([web_bodies.instance(rng)]).encode()
            headers = {"content-type": "application/dicom+json"}
            _require_answered(client.post("dicom-web/commitment-requests/1.2.3", content=text, headers=headers))

        at_once(send, 60, callers=4)


def _client(target: Target, *, known: bool = True) -> httpx2.Client:
    root = target.web.removesuffix("dicom-web")
    return httpx2.Client(base_url=root, headers=_KNOWN if known else {}, timeout=120)


def _require_answered(answer: httpx2.Response) -> None:
    """Fail for an error of the node; it may be busy."""
    assert answer.status_code < 500 or answer.status_code == 503, answer.text[:200]
