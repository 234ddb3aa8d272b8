"""Who may call, and from which pages."""

from __future__ import annotations

import pytest

from backup_scp.services.permissions import RIGHTS, CallerKind, Right, may
from backup_scp.web.options import WebOptions

TOKEN = "0123456789abcdef0123456789abcdef"
PAGE = "https://viewer.example"
ELSEWHERE = "192.0.2.1"


def status(client, **headers) -> int:
    return client.options("/", headers={name.replace("_", "-"): value for name, value in headers.items()}).status_code


def test_the_table_has_every_kind_of_caller():
    assert set(RIGHTS) == set(CallerKind)
    assert not any(may(CallerKind.UNKNOWN_WEB, right) for right in Right)
    assert not any(may(CallerKind.USER, right) for right in Right)  # its role says what it may do
    assert not any(may(CallerKind.SHARE_LINK, right) for right in Right)  # its link says that
    strangers = {CallerKind.UNKNOWN_WEB, CallerKind.USER, CallerKind.SHARE_LINK, CallerKind.REFUSED_AE}
    assert all(may(kind, Right.STORE) for kind in set(CallerKind) - strangers)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_machine_needs_no_login(make_client, address):
    assert status(make_client(address=address)) == 200


def test_another_one_is_told_how(make_client):
    answer = make_client(address=ELSEWHERE).options("/")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="backup-scp"')
    assert answer.headers["content-type"] == "application/problem+json"
    assert "token_file" in answer.json()["detail"]


def test_this_machine_at_its_own_address(make_client):
    assert status(make_client(address=ELSEWHERE, base=f"http://{ELSEWHERE}:8042/dicom-web")) == 200


def test_not_trusted_by_the_settings(make_client):
    assert status(make_client(WebOptions(trust_this_machine=False))) == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_what_came_through_a_proxy_is_not_from_this_machine(make_client, name):
    assert make_client().options("/", headers={name: "127.0.0.1"}).status_code == 401


class TestTokens:
    @pytest.fixture
    def client(self, make_client):
        return make_client(WebOptions(tokens=frozenset({TOKEN, "x" * 24})), ELSEWHERE)

    @pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer {'x' * 24}"])
    def test_right(self, client, given):
        assert status(client, authorization=given) == 200

    @pytest.mark.parametrize("given", ["Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", TOKEN, "é"])
    def test_wrong(self, client, given):
        answer = client.options("/", headers={"Authorization": given.encode("latin-1")})
        assert (answer.status_code, "invalid_token" in answer.headers["www-authenticate"]) == (401, True)

    def test_a_wrong_one_on_this_machine_is_wrong_as_well(self, make_client):
        assert status(make_client(WebOptions(tokens=frozenset({TOKEN}))), authorization="Bearer nonsense") == 401

    def test_without_any_no_token_fits(self, make_client):
        assert status(make_client(address=ELSEWHERE), authorization="Bearer ") == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8042", 200), ("localhost:8042", 200), ("LOCALHOST", 200), ("[::1]:8042", 200), ("[::1]", 200),
        ("192.0.2.7", 200), ("evil.example", 403), ("evil.example:8042", 403), ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)  # fmt: skip
def test_a_name_that_leads_to_this_computer_is_refused(web, host, expected):
    assert status(web, host=host) == expected


class TestPages:
    @pytest.fixture
    def client(self, make_client):
        return make_client(WebOptions(cors=(PAGE,)))

    def test_a_page_of_the_settings(self, client):
        answer = client.options("/", headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", f"{PAGE}.evil.example", "http://viewer.example"]
    )
    def test_another_page_cannot_read(self, client, origin):
        assert "access-control-allow-origin" not in client.options("/", headers={"Origin": origin}).headers

    def test_what_a_browser_asks_first(self, client):
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = client.options("/studies", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in answer.headers["access-control-allow-methods"]

    def test_an_error_can_be_read_as_well(self, client):
        answer = client.get("/nothing", headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (404, PAGE)

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [("https://evil.example", 403), ("null", 403), (PAGE, 404), ("http://127.0.0.1:8042", 404), (None, 404)],
    )
    def test_another_page_cannot_store(self, client, origin, expected):
        headers = {} if origin is None else {"Origin": origin}
        assert client.post("/nothing", headers=headers).status_code == expected
