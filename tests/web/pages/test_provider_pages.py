"""Log in at a provider, as a browser sees it: on a real database of users, with a provider that says what is wanted."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pyotp
import pytest

from backup_scp.machine import clock
from backup_scp.node.openid_setup import CALLBACK as ENTERED
from backup_scp.openid import provider_calls
from backup_scp.openid.openid_provider import OpenIDProvider
from backup_scp.ports import EVERY_SITE, AuditKind, FederatedIdentity, LinkKind, Role
from backup_scp.services import passwords
from backup_scp.services.logins import Logins
from backup_scp.services.provider_logins import ProviderLogins
from backup_scp.services.provider_roles import RoleRule
from backup_scp.services.user_changes import Actor, UserChanges
from backup_scp.web.options import WebOptions
from backup_scp.web.pages import provider_pages
from backup_scp.web.pages.provider_pages import CALLBACK
from tests.openid.forger import Forger
from tests.processes import wait_until
from tests.web.conftest import HOST
from tests.web.pages.conftest import ELSEWHERE

PASSWORD = "correct horse battery"
BY = Actor("test")
RULES = (
    RoleRule(Role.SEE, ("north",), group="radiology"),
    RoleRule(Role.RESTORE, ("north", "south"), group="seniors"),
    RoleRule(Role.ADMINISTER, group="it"),
    RoleRule(Role.SEE, email_domain="Clinic.example"),
)
ALL = {EVERY_SITE: Role.SEE}


@pytest.fixture(scope="module")
def forging() -> Iterator[Forger]:
    with Forger().running() as running:
        yield running


@pytest.fixture
def forger(forging) -> Forger:
    """Return a provider whose user anna is in radiology."""
    for name in ("metadata", "header", "answers"):
        getattr(forging, name).clear()
    forging.claims = {"preferred_username": "anna", "groups": ["radiology"]}
    forging.user_info = None
    return forging


@pytest.fixture
def make_browser(make_pages, accounts, forger):
    logins: list[tuple[Logins, ProviderLogins]] = []

    def make_browser(options: WebOptions | None = None, address: str = ELSEWHERE, **more):
        if not logins:
            asks, kept = more.pop("asks_second_factor", True), Logins(accounts, **more)
            provider = OpenIDProvider(forger.registration())
            logins.append((kept, ProviderLogins(kept, provider, RULES, asks_second_factor=asks)))
        kept, of_provider = logins[0]
        return make_pages(options, address, logins=kept, provider=of_provider)

    return make_browser


@pytest.fixture
def browser(make_browser):
    return make_browser()


@pytest.fixture
def add(accounts):
    def add(name: str, roles=ALL, password: str = PASSWORD):
        user = UserChanges(accounts).add(name, roles, BY)
        accounts.set_password(user.id, passwords.hashed(password))
        return accounts.credentials_of(user.id).user

    return add


def to_provider(browser, to: str = "/"):
    return browser.get("/login/openid", params={"next": to})


def back(browser, forger, location: str, **changed: str):
    return browser.get(CALLBACK, params=forger.follow(location) | changed)


def log_in(browser, forger, to: str = "/studies"):
    return back(browser, forger, to_provider(browser, to).headers["location"])


def form_of(browser, path: str) -> dict[str, str]:
    return {"token": re.findall(r'name="token" value="([^"]+)"', browser.get(path).text)[0]}


def with_password(browser, name: str = "anna", password: str = PASSWORD):
    return browser.post("/login", data=form_of(browser, "/login") | {"name": name, "password": password, "next": "/"})


def kinds(accounts) -> list[str]:
    return [event.kind for event in accounts.events(20)]


def test_what_is_entered_at_the_provider_is_where_the_browser_comes_back_to():
    assert CALLBACK == ENTERED


class TestLogin:
    def test_the_first_makes_the_user_with_the_role_of_the_group(self, browser, forger, accounts):
        led = browser.get("/studies?q=mul")
        assert led.headers["location"] == "/login?next=%2Fstudies%3Fq%3Dmul"
        page = browser.get(led.headers["location"])
        assert "Log in with Clinic login" in page.text
        link = unescape(re.findall(r'href="(/login/openid[^"]*)"', page.text)[0])
        answer = back(browser, forger, browser.get(link).headers["location"])
        assert (answer.status_code, answer.headers["location"]) == (303, "/studies?q=mul")
        assert ">anna<" in browser.get("/studies").text
        (user,) = accounts.users()
        assert (user.name, user.roles, user.is_linked, user.has_password) == ("anna", {"north": Role.SEE}, True, False)
        assert accounts.credentials_at(FederatedIdentity(forger.issuer, "4711")).user == user
        assert [(one.kind, one.who, one.about) for one in accounts.events(9)] == [
            (AuditKind.LOGIN, "anna", ""),
            (AuditKind.USER_ADDED, "Clinic login", "anna"),
        ]

    def test_each_login_sets_the_roles_again_and_a_name_that_changed_is_the_same_user(self, browser, forger, accounts):
        log_in(browser, forger)
        forger.claims = {"preferred_username": "anna.miller", "groups": ["seniors", "radiology"]}
        browser.cookies.clear()
        log_in(browser, forger)
        (user,) = accounts.users()
        assert (user.name, user.roles) == ("anna", {"north": Role.RESTORE, "south": Role.RESTORE})
        assert (accounts.events(2)[1].kind, accounts.events(2)[1].about) == (AuditKind.USER_CHANGED, "anna")

    def test_who_has_lost_all_groups_loses_role_and_sessions(self, make_browser, forger, accounts):
        here, elsewhere = make_browser(), make_browser()
        log_in(here, forger)
        forger.claims["groups"] = ["strangers"]
        refused = log_in(elsewhere, forger)
        assert refused.status_code == 403
        assert "is in no group that may log in here" in refused.text
        assert accounts.users()[0].roles == {}
        assert here.get("/studies").status_code == 303
        assert kinds(accounts)[0] == AuditKind.LOGIN_FAILED

    def test_who_has_no_group_is_no_user(self, browser, forger, accounts):
        forger.claims["groups"] = []
        assert log_in(browser, forger).status_code == 403
        assert accounts.users() == []
        assert {cookie.name for cookie in browser.cookies.jar if cookie.value} == {"backup-scp-browser"}

    @pytest.mark.parametrize(("verified", "roles"), [(True, {EVERY_SITE: Role.SEE}), (False, None)])
    def test_a_domain_counts_when_the_address_is_verified(self, browser, forger, accounts, verified, roles):
        forger.claims = {"email": "a@clinic.example", "email_verified": verified}
        log_in(browser, forger)
        assert [user.roles for user in accounts.users()] == ([roles] if roles else [])

    def test_a_disabled_user_stays_disabled(self, browser, forger, accounts):
        log_in(browser, forger)
        accounts.set_disabled(accounts.users()[0].id, is_disabled=True)
        forger.claims["groups"] = ["it"]
        assert "This user is disabled" in log_in(browser, forger).text
        assert (accounts.users()[0].roles, browser.get("/studies").status_code) == ({"north": Role.SEE}, 303)

    def test_a_user_of_the_same_name_is_not_taken_over(self, browser, forger, accounts, add):
        """Nor is one of the same e-mail address: only issuer and subject count."""
        add("Anna", {EVERY_SITE: Role.ADMINISTER})
        answer = log_in(browser, forger)
        assert answer.status_code == 403
        assert "There is a user anna here who is not linked" in unescape(answer.text)
        assert not accounts.users()[0].is_linked
        assert browser.get("/account").status_code == 303

    def test_another_person_at_the_provider_is_another_user(self, browser, forger, accounts):
        log_in(browser, forger)
        browser.cookies.clear()
        forger.claims |= {"sub": "4712"}
        assert "There is a user anna here" in log_in(browser, forger).text
        forger.claims |= {"preferred_username": "ben"}
        log_in(browser, forger)
        assert [user.name for user in accounts.users()] == ["anna", "ben"]

    def test_a_session_that_somebody_else_chose_is_not_used(self, browser, forger):
        browser.cookies.set("backup-scp", "chosen")
        log_in(browser, forger)
        tokens = [cookie.value for cookie in browser.cookies.jar if cookie.name == "backup-scp"]
        assert "chosen" not in tokens[-1:]

    def test_one_who_is_logged_in_goes_on(self, browser, forger):
        log_in(browser, forger)
        assert to_provider(browser, "/studies").headers["location"] == "/studies"

    @pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example"])
    def test_it_leads_to_no_other_site(self, browser, forger, to):
        assert log_in(browser, forger, to).headers["location"] == "/"


class TestOnce:
    def test_an_answer_counts_once(self, browser, forger):
        location = to_provider(browser).headers["location"]
        query = forger.follow(location)
        assert browser.get(CALLBACK, params=query).status_code == 303
        browser.cookies.delete("backup-scp")
        replayed = browser.get(CALLBACK, params=query)
        assert (replayed.status_code, "was used before" in replayed.text) == (403, True)

    def test_an_answer_is_for_the_browser_that_has_begun(self, make_browser, forger):
        """Login CSRF: a link with somebody else's code logs nobody in."""
        attacker, victim = make_browser(), make_browser()
        query = forger.follow(to_provider(attacker).headers["location"])
        to_provider(victim)
        assert victim.get(CALLBACK, params=query).status_code == 403
        assert victim.get("/account").status_code == 303
        assert attacker.get(CALLBACK, params=query).status_code == 303

    @pytest.mark.parametrize("state", ["x", "", "é"])
    def test_another_state(self, browser, forger, state):
        location = to_provider(browser).headers["location"]
        count = forger.asked_for("/token")
        assert back(browser, forger, location, state=state).status_code == 403
        assert forger.asked_for("/token") == count
        assert back(browser, forger, location).status_code == 303  # who sends a wrong one ends no login of others

    def test_another_nonce(self, browser, forger):
        location = to_provider(browser).headers["location"]
        forger.claims["nonce"] = "that of another login"
        answer = back(browser, forger, location)
        assert (answer.status_code, "belongs to another login" in answer.text) == (403, True)

    def test_ten_minutes(self, browser, forger, monkeypatch):
        location = to_provider(browser).headers["location"]
        monkeypatch.setattr("backup_scp.services.pending_logins.WITHIN_S", -1.0)
        assert "took more than ten minutes" in back(browser, forger, location).text

    def test_the_cookie_is_for_this_alone(self, make_browser, forger):
        browser = make_browser(WebOptions(public_url="https://pacs.example/backup"))
        begun = to_provider(browser)
        cookie = begun.headers["set-cookie"].lower()
        assert cookie.startswith("__host-backup-scp-login=")
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= set(cookie.split("; "))
        asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
        assert asked["redirect_uri"] == f"https://pacs.example/backup{CALLBACK}"

    def test_nothing_secret_is_logged_or_shown(self, browser, forger, caplog):
        location = to_provider(browser).headers["location"]
        forger.claims["nonce"] = "another"
        answer = back(browser, forger, location)
        asked = dict(parse_qsl(urlsplit(location).query))
        for text in ("a-code", asked["state"], asked["nonce"], forger.id_token(), "an-access-token"):
            assert text not in caplog.text + answer.text
        assert "A login at the provider failed" in caplog.text


class TestProviderDown:
    @pytest.fixture(autouse=True)
    def _down(self, forger):
        forger.answers["/.well-known/openid-configuration"] = (503, b"")

    def test_the_page_says_so_and_the_password_works(self, browser, add):
        add("anna")
        page = to_provider(browser, "/studies")
        assert (page.status_code, "Clinic login does not tell its discovery document" in page.text) == (503, True)
        assert 'name="password"' in page.text
        assert 'value="/studies"' in page.text
        assert with_password(browser).status_code == 303

    def test_a_logout_says_less(self, browser):
        page = browser.get("/login/openid/out")
        assert (page.status_code, "You are logged out here" in page.text) == (200, True)
        assert "Log out of" not in page.text


def test_a_provider_that_hangs_keeps_no_page_waiting(browser, forger, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    answer = forger.answer

    def hang(path: str):
        begun.set()
        assert go.wait(60)
        return answer(path)

    monkeypatch.setattr(forger, "answer", hang)
    monkeypatch.setattr(provider_pages, "_MOST_WAITING", 6)
    monkeypatch.setattr(provider_pages, "_PATIENCE_S", 100.0)
    monkeypatch.setattr(provider_calls, "TIMEOUT_S", 100.0)
    caught = []
    wait_until(lambda: not provider_pages._waiting, what="the end of what other tests have asked")
    waiting = [threading.Thread(target=lambda: caught.append(to_provider(browser).status_code)) for _ in range(6)]
    for each in waiting:
        each.start()
    try:
        assert begun.wait(60)
        wait_until(lambda: len(provider_pages._waiting) == 6, what="six logins that wait")
        assert browser.get("/login").status_code == 200
        assert "Too many logins wait" in to_provider(browser).text
    finally:
        go.set()
        for each in waiting:
            each.join()
    assert caught == [303] * 6


def test_patience_ends(browser, forger, monkeypatch):
    go = threading.Event()
    answer = forger.answer
    monkeypatch.setattr(forger, "answer", lambda path: answer(path) if go.wait(60) else None)
    monkeypatch.setattr(provider_pages, "_PATIENCE_S", 0.05)
    try:
        page = to_provider(browser)
        assert (page.status_code, "takes too long" in page.text) == (503, True)
    finally:
        go.set()


class TestSecondFactor:
    @pytest.fixture
    def with_codes(self, browser, forger, accounts):
        log_in(browser, forger)
        browser.cookies.clear()
        secret = pyotp.random_base32()
        accounts.set_codes(accounts.users()[0].id, secret, [])
        return secret

    def test_ours_is_asked_for(self, browser, forger, with_codes):
        assert log_in(browser, forger).headers["location"] == "/login/code?next=%2Fstudies"
        assert browser.get("/studies").status_code == 303
        form = form_of(browser, "/login/code") | {"code": pyotp.TOTP(with_codes).at(clock.now()), "next": "/studies"}
        assert browser.post("/login/code", data=form).headers["location"] == "/studies"
        assert browser.get("/studies").status_code == 200

    def test_not_when_the_provider_has_asked_for_one(self, browser, forger, with_codes):
        forger.claims["amr"] = ["pwd", "mfa"]
        assert log_in(browser, forger).headers["location"] == "/studies"

    def test_nor_when_the_settings_say_so(self, make_browser, forger, accounts):
        browser = make_browser(asks_second_factor=False)
        log_in(browser, forger)
        accounts.set_codes(accounts.users()[0].id, pyotp.random_base32(), [])
        browser.cookies.clear()
        assert log_in(browser, forger).headers["location"] == "/studies"


class TestWithoutPasswords:
    @pytest.fixture
    def browser(self, make_browser):
        return make_browser(takes_passwords=False)

    def test_no_password_opens_the_page(self, browser, add, accounts):
        add("anna")
        page = browser.get("/login")
        assert 'name="password"' not in page.text
        assert "backup-scp users reset" in page.text
        form = form_of(browser, f"/link?token={UserChanges(accounts).renew_first_link()}")
        form |= {"name": "anna", "password": PASSWORD, "next": "/"}
        refused = browser.post("/login", data=form)
        assert (refused.status_code, "Passwords are switched off" in refused.text) == (403, True)

    def test_the_link_of_a_reset_does(self, browser, add, accounts, forger):
        forger.answers["/.well-known/openid-configuration"] = (503, b"")
        user = add("anna", {EVERY_SITE: Role.ADMINISTER})
        link = UserChanges(accounts).reset(user, BY)
        form = form_of(browser, f"/link?token={link}")
        form |= {"link": link, "password": "sieben rote Lampen", "again": "sieben rote Lampen"}
        assert browser.post("/link", data=form).status_code == 303
        assert browser.get("/users").status_code == 200


class TestLink:
    def leave(self, page) -> str:
        assert page.status_code == 200, page.text
        address = unescape(re.findall(r'<a class="button" href="([^"]+)"', page.text)[0])
        assert unescape(re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', page.text)[0]) == address
        return address

    def begin(self, browser, password: str = PASSWORD):
        return browser.post("/account/openid", data=form_of(browser, "/account") | {"current": password})

    def test_a_user_who_knows_the_password_links_the_account(self, browser, forger, accounts, add):
        add("Anna", {EVERY_SITE: Role.SEE})
        with_password(browser)
        assert "Link with Clinic login" in browser.get("/account").text
        answer = back(browser, forger, self.leave(self.begin(browser)))
        assert (answer.status_code, answer.headers["location"]) == (303, "/account")
        assert "You log in with Clinic login" in browser.get("/account").text
        assert kinds(accounts)[:2] == [AuditKind.LINKED, AuditKind.USER_CHANGED]
        browser.cookies.clear()
        log_in(browser, forger)
        (user,) = accounts.users()
        assert (user.name, user.has_password, user.roles) == ("Anna", True, {"north": Role.SEE})

    def test_an_open_screen_is_not_enough(self, browser, add, accounts):
        add("anna")
        with_password(browser)
        assert "is wrong" in self.begin(browser, "something else").text
        assert not accounts.users()[0].is_linked

    def test_who_has_logged_out_meanwhile_links_nothing(self, browser, forger, accounts, add):
        add("anna")
        with_password(browser)
        address = self.leave(self.begin(browser))
        browser.cookies.delete("backup-scp")
        assert "no longer logged in here" in back(browser, forger, address).text
        assert not accounts.users()[0].is_linked

    def test_an_account_is_linked_to_one_user(self, make_browser, forger, accounts, add):
        log_in(make_browser(), forger)
        add("ben")
        browser = make_browser()
        with_password(browser, "ben")
        answer = back(browser, forger, self.leave(self.begin(browser)))
        assert (answer.status_code, "is linked to another user" in answer.text) == (403, True)
        assert [user.is_linked for user in accounts.users()] == [True, False]

    def test_the_only_administrator_does_not_lose_that_by_it(self, browser, forger, accounts, add):
        add("anna", {EVERY_SITE: Role.ADMINISTER})
        with_password(browser)
        assert "only administrator" in back(browser, forger, self.leave(self.begin(browser))).text
        assert (accounts.users()[0].is_linked, accounts.users()[0].is_administrator) == (False, True)

    def test_an_administrator_makes_a_link(self, make_browser, forger, accounts, add):
        admin, anna = make_browser(), make_browser()
        add("boss", {EVERY_SITE: Role.ADMINISTER})
        UserChanges(accounts).add("anna", ALL, BY)
        with_password(admin, "boss")
        page = admin.post("/users", data=form_of(admin, "/users") | {"name": "anna", "do": "link"})
        path = unescape(re.findall(r'id="link">([^<]+)<', page.text)[0]).removeprefix(HOST)
        shown = anna.get(path)
        assert "anna will log in with Clinic login from now on" in shown.text
        form = form_of(anna, path) | {"link": path.partition("=")[2]}
        answer = back(anna, forger, self.leave(anna.post("/login/openid/link", data=form)))
        assert (answer.status_code, anna.get("/account").status_code) == (303, 200)
        assert anna.get(path).status_code == 404
        page = admin.post("/users", data=form_of(admin, "/users") | {"name": "anna", "do": "unlink"})
        assert page.status_code == 200
        assert anna.get("/account").status_code == 303
        assert "There is a user anna here" in log_in(anna, forger).text

    def test_neither_kind_of_link_does_what_the_other_does(self, browser, accounts, add):
        user = add("anna")
        changes = UserChanges(accounts)
        for_provider, for_password = changes.new_link(user, LinkKind.IDENTITY), changes.new_link(user)
        assert browser.get(f"/link?token={for_provider}").status_code == 404
        assert browser.get(f"/login/openid/link?token={for_password}").status_code == 404
        form = form_of(browser, "/login") | {"password": "sieben rote Lampen", "again": "sieben rote Lampen"}
        assert browser.post("/link", data=form | {"link": for_provider}).status_code == 404
        assert browser.post("/login/openid/link", data=form | {"link": for_password}).status_code == 404


class TestLogout:
    def test_it_leads_to_where_the_session_there_ends(self, browser, forger):
        forger.metadata["end_session_endpoint"] = f"{forger.issuer}/end"
        log_in(browser, forger)
        out = browser.post("/logout", data=form_of(browser, "/account"))
        assert out.headers["location"] == "/login/openid/out"
        page = browser.get("/login/openid/out")
        address = unescape(re.findall(r'<a class="button" href="([^"]+)"', page.text)[0])
        assert address.startswith(f"{forger.issuer}/end?")
        assert dict(parse_qsl(urlsplit(address).query))["post_logout_redirect_uri"] == f"{HOST}/login"
        assert browser.get("/account").status_code == 303

    def test_the_provider_ends_the_sessions(self, make_browser, forger, accounts):
        browser, program = make_browser(), make_browser()
        log_in(browser, forger)
        forger.claims = {
            "nonce": None,
            "jti": "1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        assert program.post("/login/openid/ended", data={"logout_token": forger.id_token() + "x"}).status_code == 400
        assert browser.get("/account").status_code == 200
        assert program.post("/login/openid/ended", data={"logout_token": forger.id_token()}).status_code == 200
        assert browser.get("/account").status_code == 303
        assert kinds(accounts)[0] == AuditKind.ENDED_BY_PROVIDER

    @pytest.mark.parametrize("data", [{}, {"logout_token": ""}, {"logout_token": "a.b.c"}])
    def test_nobody_else_does(self, browser, data):
        assert browser.post("/login/openid/ended", data=data).status_code == 400

    def test_a_message_has_a_limit(self, browser):
        assert browser.post("/login/openid/ended", content=b"x" * 70_000).status_code == 413


def test_without_a_provider_there_is_nothing(make_pages, add):
    add("anna")
    browser = make_pages(address=ELSEWHERE)
    assert "openid" not in browser.get("/login").text
    for path in ("/login/openid", f"{CALLBACK}?code=a&state=b", "/login/openid/out", "/login/openid/link?token=x"):
        assert browser.get(path).status_code == 404
    assert browser.post("/login/openid/ended", data={"logout_token": "a"}).status_code == 404
