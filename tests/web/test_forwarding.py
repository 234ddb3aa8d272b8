"""The base URI of the service, which RetrieveURL and BulkDataURI begin with, and callers behind a reverse proxy."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from backup_scp.web.forwarding import Forwarding
from backup_scp.web.options import WebOptions
from tests.samples import dx, encode
from tests.web.test_callers import TOKEN

PROXY = "192.0.2.9"
PUBLIC = "https://pacs.example/backup"


def request(scheme: str = "http", port: int = 8042, client: str = "127.0.0.1", **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    server = ("127.0.0.1", port)
    return Request({"type": "http", "scheme": scheme, "server": server, "client": (client, 1), "headers": fields})


def base(asked: Request, **options) -> str:
    return Forwarding(**options).base(asked.scope, asked.headers)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(host="pacs:8042"), "http://pacs:8042/dicom-web"),
        (request(host="pacs"), "http://pacs:8042/dicom-web"),
        (request(host="[::1]"), "http://[::1]:8042/dicom-web"),
        (request("https", 443, host="pacs"), "https://pacs/dicom-web"),
        (request(host="pacs", x_forwarded_for="1.2.3.4"), "http://pacs/dicom-web"),
        (
            request(
                host="inner:8042", x_forwarded_for="1.2.3.4", x_forwarded_proto="https", x_forwarded_host="pacs.example"
            ),
            "https://pacs.example/dicom-web",
        ),
        (request(host="pacs", x_forwarded_for="1.2.3.4", x_forwarded_proto="javascript"), "http://pacs/dicom-web"),
        (request(host="pacs:1", x_forwarded_host='"><script>'), "http://pacs:1/dicom-web"),
        (request(host="pacs:1", x_forwarded_host="a/b@c"), "http://pacs:1/dicom-web"),
        (request(host="pacs:1", x_forwarded_host="[2001:db8::1]:443"), "http://[2001:db8::1]:443/dicom-web"),
    ],
)
def test_the_base_is_how_the_caller_reaches_it(asked, expected):
    assert base(asked) == expected


def test_who_is_no_proxy_does_not_say_where_it_calls():
    said: dict[str, Any] = {"host": "pacs:8042", "x_forwarded_host": "evil.example", "x_forwarded_proto": "https"}
    assert base(request(client=PROXY, **said)) == "http://pacs:8042/dicom-web"
    assert base(request(client=PROXY, **said), proxies=["192.0.2.0/24"]) == "https://evil.example/dicom-web"


def test_a_public_url_counts_more_than_headers():
    asked = request(host="inner", x_forwarded_host="evil.example")
    assert base(asked, public_url=f"{PUBLIC}/") == f"{PUBLIC}/dicom-web"


@pytest.mark.parametrize(
    ("client", "said", "expected"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "203.0.113.1, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", f"203.0.113.1, 198.51.100.7, {PROXY}", "198.51.100.7"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        (PROXY, "198.51.100.7", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),
        ("127.0.0.1", "203.0.113.1," + "127.0.0.1," * 5000, "127.0.0.1"),
    ],
)
def test_the_address_is_what_trusted_proxies_say(client, said, expected):
    asked = request(client=client, x_forwarded_for=said)
    assert Forwarding(proxies=[PROXY]).address_of(asked.scope, asked.headers) == expected


class TestBehindAProxy:
    @pytest.fixture
    def client(self, make_client):
        client = make_client(WebOptions(tokens=frozenset({TOKEN}), public_url=PUBLIC))
        client.headers["authorization"] = f"Bearer {TOKEN}"
        return client

    def test_the_addresses_in_answers(self, client, stored):
        sample = encode(dx())
        stored.put(sample)
        (found,) = client.get("/instances").json()
        assert found["00081190"]["Value"][0].startswith(f"{PUBLIC}/dicom-web/studies/")
        uids = [found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        (metadata,) = client.get("/studies/{}/series/{}/instances/{}/metadata".format(*uids)).json()
        assert metadata["7FE00010"]["BulkDataURI"].startswith(f"{PUBLIC}/dicom-web/studies/")
        assert f'base="{PUBLIC}/dicom-web"' in client.options("/").text

    def test_everyone_needs_a_token(self, client):
        del client.headers["authorization"]
        assert client.get("/studies").status_code == 401

    @pytest.mark.parametrize(
        ("origin", "expected"), [("https://pacs.example", 404), ("http://127.0.0.1:8042", 403), ("null", 403)]
    )
    def test_our_own_pages_may_store(self, client, origin, expected):
        assert client.post("/nothing", headers={"Origin": origin}).status_code == expected


@pytest.mark.parametrize("header", ["Via", "X-Forwarded-Host", "X-Forwarded-Proto"])
def test_any_trace_of_a_proxy_is_no_caller_on_this_computer(make_client, header):
    assert make_client().options("/", headers={header: "x"}).status_code == 401


def test_http_1_0_is_a_proxy_without_settings():
    asked = request(host="127.0.0.1:8042")
    assert not Forwarding().is_proxied({**asked.scope, "http_version": "1.1"})
    assert Forwarding().is_proxied({**asked.scope, "http_version": "1.0"})
