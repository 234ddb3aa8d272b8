"""conf/nginx.conf and conf/Caddyfile in the real programs: nothing is kept or logged, nobody lies about its address."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator

import httpx2
import pytest

from benchmarks.certificates import issue
from tests.processes import LOOPBACK, free_port, wait_until
from tests.samples import dx, encode, replace
from tests.system.contents import private_information, staged, stored_file, visible
from tests.system.node import Node
from tests.system.proxies import KINDS, Proxy
from tests.system.web import web_node
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, body, part

TOKEN = "0123456789abcdef0123456789abcdef"
SECRET = "v3rY-s3cr3t-t0k3n-0f-a-l1nk"
CANARY = "Canary-Name-42"
PIECE_BYTES = 1 << 20


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def node(make_node, port) -> Node:
    web = {"token_file": "tokens", "public_url": f"https://{LOOPBACK}:{port}"}
    node = web_node(make_node, web)
    node.home.mkdir(parents=True)
    (node.home / "tokens").write_text(TOKEN)
    node.start()
    return node


@pytest.fixture(params=KINDS)
def proxy(request, node, port, tmp_path, processes) -> Proxy:
    folder = tmp_path / "proxy"
    folder.mkdir()
    proxy = Proxy(folder, port, issue(tmp_path / "certificates", LOOPBACK), processes)
    {"nginx": proxy.serve_nginx, "caddy": proxy.serve_caddy}[request.param](node)
    return proxy


@pytest.fixture
def caller(proxy) -> Iterator[httpx2.Client]:
    context = ssl.create_default_context(cafile=str(proxy.certificates.ca))
    context.check_hostname = False
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(
        base_url=f"https://{LOOPBACK}:{proxy.port}", headers=headers, verify=context, timeout=60
    ) as client:
        yield client


def test_nobody_lies_about_its_address(caller, node):
    sample = encode(dx())
    lies = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9", "x-real-ip": "203.0.113.9"}
    headers = {"content-type": CONTENT_TYPE, "x-forwarded-proto": "http", "x-forwarded-host": "evil.example"} | lies
    stored = caller.post("/dicom-web/studies", content=body(sample.file_bytes()), headers=headers)
    assert stored.status_code == 200
    assert private_information(stored_file(node, sample))["address"] == LOOPBACK
    assert "evil.example" not in stored.text


def test_a_login_is_for_https_alone(caller, node):
    link = re.findall(r"/link\?token=(\S+)", node.cli("users", "add", "Anna", "--role", "administer").stdout)[0]
    del caller.headers["authorization"]
    page = caller.get("/link", params={"token": link})
    assert page.headers["strict-transport-security"] == "max-age=31536000"
    assert page.headers["cache-control"] == "no-store"
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    password = "correct horse battery"
    form = fields | {"password": password, "again": password}
    done = caller.post("/link", data=form, headers={"origin": f"https://{LOOPBACK}:{caller.base_url.port}"})
    (cookie,) = done.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-")
    assert {"secure", "httponly"} <= {one.strip().lower() for one in cookie.split(";")}


def test_a_long_upload_is_in_the_archive_before_it_has_come_to_its_end(caller, proxy, node):
    """The body waits in its middle, until the node has on its disk what was sent."""
    sample = encode(replace(dx(), PixelData=bytes(range(256)) * (256 << 8)))
    content = part(sample.file_bytes()) + f"--{BOUNDARY}--\r\n".encode()
    half = len(content) // 2
    came = threading.Event()

    def pieces() -> Iterator[bytes]:
        for at in range(0, half, PIECE_BYTES):
            yield content[at : min(half, at + PIECE_BYTES)]
        wait_until(lambda: sum(path.stat().st_size for path in staged(node)) > half // 2, what="the node having a half")
        came.set()
        yield content[half:]

    before = proxy.kept_bytes
    stored = caller.post("/dicom-web/studies", content=pieces(), headers={"content-type": CONTENT_TYPE})
    assert (stored.status_code, came.is_set(), len(visible(node))) == (200, True, 1)
    accept = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    fetched = caller.get(stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0], headers=accept)
    assert sample.data_set in fetched.content
    assert proxy.kept_bytes == before


def test_what_happens_is_on_the_page_at_once(caller, node):
    with caller.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        node.send([encode(dx())])
        assert next(line for line in lines if line.startswith("data:") and line != first)


def test_the_logs_name_no_token_and_no_patient(caller, proxy, node):
    """Also not when the node does not answer, and the proxy logs an error."""

    def ask() -> list[int]:
        asked = [
            caller.get(f"/share/{SECRET}"),
            caller.get(f"/share/{SECRET}/image?PatientName={CANARY}"),
            caller.get("/link", params={"token": SECRET}),
            caller.get("/dicom-web/studies", params={"PatientName": CANARY}),
            caller.get(
                "/studies", headers={"referer": f"https://pacs.example/share/{SECRET}", "cookie": f"a={SECRET}"}
            ),
        ]
        return [answer.status_code for answer in asked]

    assert 502 not in ask()
    node.stop()
    assert set(ask()) == {502}
    wait_until(lambda: "/dicom-web/studies" in proxy.logs, what="the log of requests")
    logs = proxy.logs
    assert [secret for secret in (SECRET, CANARY, TOKEN) if secret in logs] == []
    assert "/share/-" in logs
    assert SECRET not in node.output
