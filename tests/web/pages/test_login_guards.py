"""What guards a login at the page: passkeys, a second step for everybody, and forms that a stranger sends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from backup_scp.ports import Role
from backup_scp.services.logins import Logins
from backup_scp.services.passkeys import PasskeySite
from backup_scp.services.user_changes import UserChanges
from backup_scp.web.app import application
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.pages.page_table import PAGES
from tests.security_key import SecurityKey
from tests.web.conftest import stores_of
from tests.web.pages.conftest import ELSEWHERE
from tests.web.pages.test_login_pages import (  # noqa: F401 - fixtures
    BY,
    PASSWORD,
    add,
    browser,
    form_of,
    log_in,
    stored_hash,
)

ORIGIN = "http://localhost:8042"
SITE = PasskeySite("localhost", ORIGIN)


@pytest.fixture
def named(make_pages) -> Callable[..., TestClient]:
    """Return ``named()``: a browser that opens the node by a name that passkeys can belong to."""

    def named() -> TestClient:
        client = make_pages(address=ELSEWHERE)
        client.base_url = ORIGIN
        return client

    return named


@pytest.fixture
def everybody(stored, accounts) -> TestClient:
    """A browser at a node where everybody needs a second step."""
    sources = PageSources(
        stores_of(stored),
        lambda: pytest.fail("nobody may see the state"),
        stored.index,
        stored.index.copies.copies_of,
        logins=Logins(accounts, needs_second_factor=True),
    )
    app = application(sources.stores, WebOptions(), pages=sources)
    return TestClient(app, base_url=ORIGIN, client=(ELSEWHERE, 50000), follow_redirects=False)


def add_passkey(client: TestClient, name: str = "My phone") -> tuple[SecurityKey, str]:
    """Add a passkey at the page; return it, and the page that follows."""
    form = form_of(client, "/account") | {"current": PASSWORD, "name": name}
    key = SecurityKey(ORIGIN)
    options = client.post("/account/passkeys/new", data=form).json()
    sent = {"token": form["token"], "name": name, "handle": key_handle(options), "answer": key.make(options)}
    return key, client.post("/account/passkeys", data=sent).text


def key_handle(options: dict) -> str:
    return options["user"]["id"]


def log_in_with(client: TestClient, key: SecurityKey, to: str = ""):
    form = form_of(client, "/login")
    answer = key.sign(client.get("/login/passkey").json())
    return client.post("/login/passkey", data=form | {"answer": answer, "next": to})


class TestPasskeys:
    @pytest.fixture
    def anna(self, named, add) -> TestClient:  # noqa: F811
        add("anna")
        client = named()
        log_in(client)
        return client

    def test_added_used_and_removed(self, anna, accounts):
        key, page = add_passkey(anna)
        assert len(re.findall(r"<code>([a-z2-7-]{19})</code>", page)) == 10
        assert "My phone" in anna.get("/account").text
        anna.cookies.clear()
        back = log_in_with(anna, key, "/studies?q=a")
        assert (back.status_code, back.headers["location"]) == (303, "/studies?q=a")
        assert anna.get("/studies").status_code == 200
        anna.cookies.clear()
        assert log_in(anna).headers["location"].startswith("/login/code")
        page = anna.get("/login/code").text
        asked = json.loads(re.findall('data-asked="([^"]+)"', page)[0].replace("&#34;", '"'))
        form = form_of(anna, "/login/code") | {"answer": key.sign(asked), "next": "//evil.example"}
        assert anna.post("/login/code/passkey", data=form).headers["location"] == "/"
        (stored,) = accounts.passkeys(accounts.credentials("anna").user.id)
        form = form_of(anna, "/account") | {"passkey": str(stored.id)}
        assert "wrong" in anna.post("/account/passkeys/remove", data=form | {"current": "x"}).text
        assert anna.post("/account/passkeys/remove", data=form | {"current": PASSWORD}).status_code == 303
        assert "removed already" in anna.post("/account/passkeys/remove", data=form | {"current": PASSWORD}).text
        anna.cookies.clear()
        assert log_in_with(anna, key).status_code == 403

    def test_an_open_screen_adds_none(self, anna):
        form = form_of(anna, "/account") | {"current": "wrong wrong wrong", "name": "x"}
        told = anna.post("/account/passkeys/new", data=form)
        assert (told.status_code, "wrong" in told.json()["error"]) == (403, True)

    def test_what_was_made_for_another_session(self, anna, named):
        other = named()
        log_in(other)
        key = SecurityKey(ORIGIN)
        options = other.post("/account/passkeys/new", data=form_of(other, "/account") | {"current": PASSWORD}).json()
        sent = {"name": "x", "handle": key_handle(options), "answer": key.make(options)}
        page = anna.post("/account/passkeys", data=form_of(anna, "/account") | sent)
        assert (page.status_code, "took too long" in page.text) == (400, True)

    def test_a_challenge_belongs_to_one_browser(self, anna, named):
        key, _ = add_passkey(anna)
        evil, victim = named(), named()
        form_of(evil, "/login")
        answer = key.sign(evil.get("/login/passkey").json())
        refused = victim.post("/login/passkey", data=form_of(victim, "/login") | {"answer": answer})
        assert refused.status_code == 403
        assert "backup-scp=" not in refused.headers.get("set-cookie", "")

    @pytest.mark.parametrize("number", ["", "x", "9" * 30, "-1", "²"])
    def test_a_number_that_is_none(self, anna, number):
        form = form_of(anna, "/account") | {"passkey": number, "current": PASSWORD}
        assert anna.post("/account/passkeys/remove", data=form).status_code == 400

    def test_where_there_can_be_none_the_page_says_why(self, make_pages, add):  # noqa: F811
        add("anna")
        for url, word in (("http://192.0.2.7:8042", "need a name"), ("http://pacs.example", "encrypted line")):
            client = make_pages(address=ELSEWHERE)
            client.base_url = url
            assert "Log in with a passkey" not in client.get("/login").text
            log_in(client)
            assert word in client.get("/account").text
            form = form_of(client, "/account") | {"current": PASSWORD, "name": "x"}
            assert client.post("/account/passkeys/new", data=form).status_code == 400

    def test_administrators_see_who_has_one(self, anna, accounts, named, add):  # noqa: F811
        add_passkey(anna)
        add("root", Role.ADMINISTER)
        root = named()
        log_in(root, "root")
        assert root.get("/users").text.count(">Passkeys<") == 1
        root.post("/users", data=form_of(root, "/users") | {"do": "reset", "name": "anna"})
        assert not UserChanges(accounts).found("anna").has_second_factor
        assert anna.get("/account").status_code == 303


class TestForEverybody:
    def test_nothing_else_before(self, everybody, add):  # noqa: F811
        add("root", Role.ADMINISTER)
        log_in(everybody, "root")
        assert everybody.get("/studies").headers["location"] == "/account"
        assert everybody.get("/").headers["location"] == "/account"
        page = everybody.get("/account").text
        assert "Everybody here needs a second step" in page
        assert "<nav" in page
        assert 'href="/users"' not in page
        for path in (f"{BASE_PATH}/studies", "/events", "/metrics", "/viewer/"):
            assert everybody.get(path, headers={"Sec-Fetch-Mode": "cors"}).status_code == 403, path
        token = form_of(everybody, "/account")
        allowed = {"/account", "/account/codes", "/account/codes/off", "/logout"}
        allowed |= {"/account/passkeys", "/account/passkeys/new", "/account/passkeys/remove"}
        for route in PAGES:
            if route.path.startswith(("/static", "/login", "/logout", "/link", "/share")) or route.path in allowed:
                continue
            answer = everybody.request(
                route.method, re.sub("{[^}]*}", "1", route.path), data=token, headers={"Sec-Fetch-Mode": "cors"}
            )
            assert (answer.status_code, "second step" in answer.text) == (403, True), route.path

    def test_then_everything(self, everybody, add):  # noqa: F811
        add("anna")
        log_in(everybody)
        add_passkey(everybody)
        assert everybody.get("/studies").status_code == 200

    def test_who_takes_the_last_one_away_is_led_back(self, everybody, add, accounts):  # noqa: F811
        anna = add("anna")
        log_in(everybody)
        add_passkey(everybody)
        accounts.remove_passkeys(anna.id)
        assert everybody.get("/studies").headers["location"] == "/account"


class TestForms:
    def test_nobody_logs_another_browser_in(self, named, add):  # noqa: F811
        """Login CSRF: the form of another browser does not count here, nor one without a browser's name."""
        add("evil")
        evil, victim, new = named(), named(), named()
        form = form_of(evil, "/login") | {"name": "evil", "password": PASSWORD}
        form_of(victim, "/login")
        assert victim.post("/login", data=form).status_code == 403
        sent = new.post("/login", data=form)
        assert sent.status_code == 403
        for client in (victim, new):
            assert "backup-scp" not in client.cookies
        assert evil.post("/login", data=form).status_code == 303

    def test_nobody_gives_another_browser_a_user_by_a_link(self, named, add, accounts):  # noqa: F811
        token = UserChanges(accounts).new_link(add("evil"))
        evil, victim = named(), named()
        form = form_of(evil, f"/link?token={token}") | {"link": token, "password": PASSWORD, "again": PASSWORD}
        form_of(victim, "/login")
        assert victim.post("/link", data=form).status_code == 403
        assert "backup-scp" not in victim.cookies

    def test_an_address_that_a_stranger_gave_is_not_gone_to(self, named, add):  # noqa: F811
        add("anna")
        for to in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
            client = named()
            assert log_in(client, to=to).headers["location"] == "/"
            assert client.get("/login", params={"next": to}).headers["location"] == "/"

    @pytest.mark.parametrize("token", ["", "x", "x" * 5000, "é", '"', "%00", "; backup-scp=x"])
    def test_a_guessed_session(self, named, add, token):  # noqa: F811
        add("anna")
        answer = named().get("/account", headers={"Cookie": f"backup-scp={token}".encode("latin-1")})
        assert answer.status_code == 303

    def test_the_viewer_leads_to_the_login_and_back(self, named, add):  # noqa: F811
        add("anna")
        client = named()
        path = "/viewer/?StudyInstanceUIDs=1.2.3"
        led = client.get(path)
        assert led.headers["location"] == "/login?next=%2Fviewer%2F%3FStudyInstanceUIDs%3D1.2.3"
        assert log_in(client, to=path).headers["location"] == path
        assert client.get(path).status_code != 303


def test_a_login_asks_the_database_the_same_whether_there_is_such_a_user(named, add, accounts):  # noqa: F811
    """The work tells nothing: the same statements, for a name that nobody has, a wrong password, a disabled user."""
    disabled = add("disabled")
    accounts.set_disabled(disabled.id, is_disabled=True)
    add("anna")
    of_anna = named()
    log_in(of_anna)
    add_passkey(of_anna)
    asked: dict[str, list[str]] = {}
    with_form = named()
    form = form_of(with_form, "/login")
    with_form.post("/login", data=form | {"name": "somebody", "password": "x"})  # the address has failed once
    for name, password in (("anna", "wrong wrong wrong"), ("nobody", PASSWORD), ("disabled", PASSWORD)):
        statements = asked[name] = []

        def note(_c, _cursor, statement, *_more, statements=statements) -> None:
            statements.append(statement)

        sa.event.listen(accounts._database._engine, "before_cursor_execute", note)
        assert with_form.post("/login", data=form | {"name": name, "password": password}).status_code == 403
        sa.event.remove(accounts._database._engine, "before_cursor_execute", note)
    assert asked["anna"]
    assert asked["nobody"] == asked["disabled"] == asked["anna"]
