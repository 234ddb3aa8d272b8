"""Log in, choose a password by a link, my account, users: on a real database of users."""

from __future__ import annotations

import re

import pyotp
import pytest

from backup_scp.machine import clock as machine_clock
from backup_scp.ports import EVERY_SITE, AuditKind, Role
from backup_scp.services import passwords
from backup_scp.services.user_changes import Actor, UserChanges, roles_of
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.pages.login_pages import own_path
from tests.web.conftest import HOST
from tests.web.pages.conftest import ELSEWHERE

PASSWORD = "correct horse battery"
BY = Actor("test")
SECURE = WebOptions(public_url="https://pacs.example")


@pytest.fixture(scope="module")
def stored_hash() -> str:
    return passwords.hashed(PASSWORD)


@pytest.fixture
def add(accounts, stored_hash):
    def add(name: str, role: Role = Role.SEE, *sites: str):
        user = UserChanges(accounts).add(name, roles_of(role, sites), BY)
        accounts.set_password(user.id, stored_hash)
        return user

    return add


@pytest.fixture
def browser(make_pages):
    """A browser on another computer."""
    return make_pages(address=ELSEWHERE)


def form_of(client, path: str) -> dict[str, str]:
    page = client.get(path)
    assert page.status_code == 200, page.text
    return {"token": re.findall(r'name="token" value="([^"]+)"', page.text)[0]}


def log_in(client, name: str = "anna", password: str = PASSWORD, to: str = ""):
    return client.post("/login", data=form_of(client, "/login") | {"name": name, "password": password, "next": to})


class TestLogin:
    def test_who_is_not_logged_in_is_led_there_and_back(self, browser, add):
        add("anna")
        led = browser.get("/studies?q=mul")
        assert (led.status_code, led.headers["location"]) == (303, "/login?next=%2Fstudies%3Fq%3Dmul")
        page = browser.get(led.headers["location"])
        assert 'value="/studies?q=mul"' in page.text
        back = log_in(browser, to="/studies?q=mul")
        assert (back.status_code, back.headers["location"]) == (303, "/studies?q=mul")
        assert "anna" in browser.get("/studies").text
        assert browser.get("/login").headers["location"] == "/"

    def test_what_no_person_navigates_to_is_not_led_away(self, browser, add):
        add("anna")
        assert browser.get("/studies?part=list", headers={"Sec-Fetch-Mode": "cors"}).status_code == 401
        assert browser.get(f"{BASE_PATH}/studies").status_code == 401

    def test_without_users_nothing_is_shown_but_a_sentence(self, browser):
        for path in ("/", "/login", "/studies", "/users", "/account"):
            page = browser.get(path)
            assert (page.status_code, "There are no users yet" in page.text) == (401, True)
            assert "<nav" in page.text
            assert 'href="/studies"' not in page.text

    @pytest.mark.parametrize(
        "attributes",
        [{"name": "anna", "password": "wrong wrong wrong"}, {"name": "nobody", "password": PASSWORD}, {"name": "anna"}],
    )
    def test_a_wrong_one_tells_nothing(self, browser, add, attributes):
        add("anna")
        page = browser.post("/login", data=form_of(browser, "/login") | attributes)
        assert (page.status_code, "Name, password or code is wrong" in page.text) == (403, True)
        assert "set-cookie" not in page.headers
        assert "wrong wrong" not in page.text

    def test_guessing_has_to_wait(self, browser, add):
        add("anna")
        for _ in range(12):
            if (page := log_in(browser, password="wrong wrong wrong")).status_code == 429:
                break
        assert (page.status_code, page.headers["retry-after"].isdecimal()) == (429, True)
        assert f"wait {page.headers['retry-after']} seconds" in page.text

    def test_out(self, browser, add):
        add("anna")
        log_in(browser)
        cookie = dict(browser.cookies)
        out = browser.post("/logout", data=form_of(browser, "/account"))
        assert out.headers["location"] == "/login"
        assert browser.get("/account").status_code == 303
        browser.cookies.update(cookie)
        assert browser.get("/account").status_code == 303  # the session is over, not only the cookie

    def test_the_state_is_for_those_who_see_every_site(self, browser, add):
        add("anna", Role.SEE, "north")
        log_in(browser)
        assert browser.get("/").headers["location"] == "/studies"
        assert browser.get("/studies").status_code == 200
        assert browser.get("/events").status_code == 403
        assert browser.get("/metrics").status_code == 403


class TestCookie:
    def test_over_https(self, make_pages, add):
        add("anna")
        browser = make_pages(SECURE, ELSEWHERE)
        page = browser.get("/login")
        token = re.findall(r'name="token" value="([^"]+)"', page.text)[0]
        form = {"token": token, "name": "anna", "password": PASSWORD}
        named = page.headers["set-cookie"]
        cookie = browser.post("/login", data=form, headers={"Cookie": named.partition(";")[0]}).headers["set-cookie"]
        for set_cookie, expected in ((named, "__Host-backup-scp-browser"), (cookie, "__Host-backup-scp")):
            name, _, attributes = set_cookie.partition("=")
            assert name == expected
            assert {"httponly", "secure", "samesite=lax", "path=/"} <= set(attributes.lower().split("; "))
            assert "domain" not in attributes.lower()

    def test_over_http_it_is_not_called_secure(self, browser, add):
        add("anna")
        cookie = log_in(browser).headers["set-cookie"].lower()
        assert cookie.startswith("backup-scp=")
        assert "secure" not in cookie
        assert "httponly; path=/; samesite=lax" in cookie

    def test_a_session_that_somebody_else_chose_is_not_used(self, browser, add):
        """Session fixation: the token after the login is another one than before, which ends."""
        add("anna")
        form = form_of(browser, "/login") | {"name": "anna", "password": PASSWORD, "next": ""}
        named = browser.cookies["backup-scp-browser"]
        tokens = ["chosen"]
        for _ in range(2):
            cookie = {"Cookie": f"backup-scp={tokens[-1]}; backup-scp-browser={named}"}
            if len(tokens) > 1:  # the form of a session has its token
                page = browser.get("/account", headers=cookie)
                form["token"] = re.findall(r'name="token" value="([^"]+)"', page.text)[0]
            sent = browser.post("/login", data=form, headers=cookie)
            tokens.append(re.findall("backup-scp=([^;]{43});", sent.headers["set-cookie"])[0])
            browser.cookies.clear()
        assert len(set(tokens)) == 3
        answers = [browser.get("/account", headers={"Cookie": f"backup-scp={one}"}).status_code for one in tokens]
        assert answers == [303, 303, 200]

    def test_a_page_is_not_kept(self, browser, add):
        add("anna")
        log_in(browser)
        assert browser.get("/account").headers["cache-control"] == "no-store"


class TestForgery:
    def test_a_form_needs_the_token_of_its_own_session(self, make_pages, add, accounts):
        """CSRF: neither a token of another session nor that of a caller without one counts."""
        add("root", Role.ADMINISTER)
        add("evil", Role.ADMINISTER)
        app = make_pages(address=ELSEWHERE)
        log_in(app, "root")
        victim = dict(app.cookies)
        app.cookies.clear()
        open_token = form_of(app, "/login")
        log_in(app, "evil")
        evil_token = form_of(app, "/account")
        app.cookies.clear()
        app.cookies.update(victim)
        for token in (open_token, evil_token, {"token": ""}, {}):
            page = app.post("/users", data=token | {"do": "add", "name": "mole", "role": "administer"})
            assert page.status_code == 403
        assert accounts.credentials("mole") is None

    def test_another_origin_and_site(self, browser, add):
        add("root", Role.ADMINISTER)
        log_in(browser, "root")
        form = form_of(browser, "/users") | {"do": "add", "name": "mole", "role": "see"}
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
            assert browser.post("/users", data=form, headers=headers).status_code == 403
        assert browser.post("/users", data=form, headers={"Origin": HOST}).status_code == 200


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/studies?q=a%20b", "/studies?q=a%20b"), ("/", "/"), ("", "/"), ("//evil.example", "/"),
        ("/\\evil.example", "/"), ("https://evil.example", "/"), ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"), ("/\t/evil.example", "/"),
        ("/studies\\..", "/"), ("/é", "/"), ("/" + "x" * 3000, "/"), ("studies", "/"), ("\\/evil.example", "/"),
    ],
)  # fmt: skip
def test_a_login_leads_to_paths_of_ours_only(text, path):
    assert own_path(text) == path


class TestEnds:
    def test_at_once_when_disabled(self, browser, add, accounts):
        add("root", Role.ADMINISTER)
        anna = add("anna")
        log_in(browser)
        assert browser.get(f"{BASE_PATH}/studies").is_success
        UserChanges(accounts).set_disabled(anna, BY, is_disabled=True)
        assert browser.get(f"{BASE_PATH}/studies").status_code == 401
        assert browser.get("/studies").status_code == 303

    def test_an_answer_without_end_ends_as_well(self, browser, add, accounts, monkeypatch):
        monkeypatch.setattr("backup_scp.web.pages.state_feed.LEAST_S", 0.05)
        add("root", Role.ADMINISTER)
        anna = add("anna")
        log_in(browser)
        seen: list[str] = []
        with browser.stream("GET", "/events") as events:
            for line in events.iter_lines():
                if line and not seen:
                    seen.append(line)
                    UserChanges(accounts).set_disabled(anna, BY, is_disabled=True)
        assert seen


class TestCodes:
    @pytest.fixture
    def secret(self, browser, add, clock):
        add("anna")
        log_in(browser)
        page = browser.get("/account/codes")
        secret = re.findall(r'name="secret" value="([^"]+)"', page.text)[0]
        assert "<svg" in page.text
        form = form_of(browser, "/account/codes") | {"secret": secret}
        wrong = browser.post("/account/codes", data=form | {"current": PASSWORD, "code": "1"})
        assert (wrong.status_code, secret in wrong.text) == (400, True)
        code = pyotp.TOTP(secret).at(machine_clock.now())
        not_known = browser.post("/account/codes", data=form | {"current": "x", "code": code})
        assert "wrong" in not_known.text
        page = browser.post("/account/codes", data=form | {"current": PASSWORD, "code": code})
        assert page.status_code == 200
        self.recovery = re.findall(r"<code>([a-z2-7-]{19})</code>", page.text)
        assert len(self.recovery) == 10
        browser.cookies.clear()
        return secret

    def test_a_login_needs_one_and_each_works_once(self, browser, secret, clock):
        first = log_in(browser, to="/studies")
        assert first.headers["location"] == "/login/code?next=%2Fstudies"
        assert browser.get("/studies").status_code == 303
        form = form_of(browser, first.headers["location"]) | {"next": "/studies"}
        clock.jump(minutes=1)
        code = pyotp.TOTP(secret).at(machine_clock.now())
        assert browser.post("/login/code", data=form | {"code": "000000"}).status_code == 403
        assert browser.post("/login/code", data=form | {"code": code}).headers["location"] == "/studies"
        assert browser.get("/studies").status_code == 200
        browser.cookies.clear()
        log_in(browser)
        again = browser.post("/login/code", data=form_of(browser, "/login/code") | {"code": code})
        assert again.status_code == 403
        recovered = browser.post("/login/code", data=form_of(browser, "/login/code") | {"code": self.recovery[0]})
        assert recovered.status_code == 303
        assert "9 are left" in browser.get("/account").text
        off = browser.post("/account/codes/off", data=form_of(browser, "/account") | {"current": PASSWORD})
        assert off.status_code == 303
        assert "Turn codes on" in browser.get("/account").text

    def test_without_the_first_step_there_is_no_second(self, browser, add):
        add("anna")
        assert browser.get("/login/code").headers["location"] == "/login?next=%2F"
        sent = browser.post("/login/code", data=form_of(browser, "/login") | {"code": "123456"})
        assert sent.headers["location"] == "/login?next=%2F"


class TestLinks:
    def test_the_first_administrator(self, browser, accounts):
        token = UserChanges(accounts).renew_first_link()
        page = browser.get(f"/link?token={token}")
        assert page.headers["referrer-policy"] == "same-origin"  # with no-referrer, a browser sends Origin: null
        form = form_of(browser, f"/link?token={token}") | {"link": token, "name": "root"}
        weak = browser.post("/link", data=form | {"password": "short", "again": "short"})
        differ = browser.post("/link", data=form | {"password": PASSWORD, "again": "other"})
        assert ("12 characters" in weak.text, "differ" in differ.text) == (True, True)
        done = browser.post("/link", data=form | {"password": PASSWORD, "again": PASSWORD})
        assert done.status_code == 303
        assert browser.get("/users").status_code == 200
        assert browser.get(f"/link?token={token}").status_code == 404

    @pytest.mark.parametrize("token", ["", "x", "x" * 5000, "%00"])
    def test_a_guess(self, browser, accounts, token):
        UserChanges(accounts).renew_first_link()
        assert browser.get(f"/link?token={token}").status_code == 404


class TestUsers:
    @pytest.fixture
    def root(self, browser, add):
        add("root", Role.ADMINISTER)
        log_in(browser, "root")
        return browser

    def send(self, client, **form: str):
        return client.post("/users", data=form_of(client, "/users") | form)

    def test_added_changed_reset_disabled_removed(self, root, accounts):
        page = self.send(root, do="add", name="anna", role="restore", sites="north, south")
        (link,) = re.findall(r'id="link">([^<]+)<', page.text)
        assert link.startswith(f"{HOST}/link?token=")
        assert accounts.credentials("anna").user.roles == {"north": Role.RESTORE, "south": Role.RESTORE}
        self.send(root, do="role", name="anna", role="see", sites="")
        assert accounts.credentials("anna").user.roles == {EVERY_SITE: Role.SEE}
        assert self.send(root, do="reset", name="anna").text.count("/link?token=") == 1
        self.send(root, do="disable", name="anna")
        assert accounts.credentials("anna").user.is_disabled
        self.send(root, do="enable", name="anna")
        self.send(root, do="remove", name="anna")
        assert accounts.credentials("anna") is None
        page = root.get("/users").text
        assert all(kind in page for kind in (AuditKind.USER_ADDED, AuditKind.USER_REMOVED, AuditKind.LOGIN))

    def test_what_cannot_be_is_said(self, root):
        assert "only administrator" in self.send(root, do="disable", name="root").text
        assert "every site" in self.send(root, do="add", name="anna", role="administer", sites="north").text
        assert self.send(root, do="add", name="anna", role="fly").status_code == 400
        assert self.send(root, do="fly", name="root").status_code == 400
        assert "no user" in self.send(root, do="remove", name="nobody").text

    def test_a_name_is_text(self, root):
        page = self.send(root, do="add", name="<b>bold</b>", role="see")
        assert "<b>bold" not in page.text


def test_a_password_is_changed_and_all_other_sessions_end(make_pages, add):
    add("anna")
    one, two = make_pages(address=ELSEWHERE), make_pages(address=ELSEWHERE)
    log_in(one)
    log_in(two)
    form = form_of(one, "/account") | {"password": "another good phrase", "again": "another good phrase"}
    assert "wrong" in one.post("/account/password", data=form | {"current": "x"}).text
    assert one.post("/account/password", data=form | {"current": PASSWORD}).status_code == 303
    assert (one.get("/account").status_code, two.get("/account").status_code) == (200, 303)
    log_in(two, password="another good phrase")
    two.post("/account/sessions", data=form_of(two, "/account"))
    assert (one.get("/account").status_code, two.get("/account").status_code) == (303, 200)


def test_it_ends_when_nobody_uses_it(browser, add, clock):
    add("anna")
    log_in(browser)
    clock.jump(minutes=59)
    assert browser.get("/account").status_code == 200
    clock.jump(minutes=61)
    assert browser.get("/account").status_code == 303


def test_this_machine_is_a_user_when_logged_in(make_pages, add):
    add("anna", Role.SEE, "north")
    here = make_pages()
    assert here.get("/users").status_code == 200
    log_in(here)
    assert here.get("/users").status_code == 403


def test_this_machine_by_another_name_logs_in(make_pages, add):
    named = {"Host": "pacs.example:8042"}
    assert make_pages().get("/", headers=named).status_code == 403
    add("anna")
    assert make_pages().get("/", headers=named).headers["location"] == "/login"


def test_a_damaged_database_stops_logins_and_nothing_else(make_pages, tmp_path):
    (tmp_path / "accounts.sqlite").write_bytes(b"damaged" * 1000)
    here = make_pages()
    here.cookies.set("backup-scp", "x")
    assert here.get("/studies").status_code == 200
    page = make_pages(address=ELSEWHERE).get("/login")
    assert (page.status_code, "docs/users.md" in page.text) == (503, True)
    assert make_pages().get("/studies", headers={"Host": "pacs.example"}).status_code == 403
