"""Passkeys of a software key: what a login takes, and what it refuses."""

from __future__ import annotations

import contextlib
import json

import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import InvalidSelection
from backup_scp.ports import EVERY_SITE, AuditKind, Role
from backup_scp.services import passwords, user_changes
from backup_scp.services.challenges import Challenges
from backup_scp.services.logins import LoginRefused, Logins, Origin, TooManyAttempts
from backup_scp.services.passkeys import PasskeyRefused, PasskeySite, fault_of, site_of
from backup_scp.services.user_changes import Actor, UserChanges
from tests.security_key import PRESENT, SecurityKey

ORIGIN = "https://pacs.example"
SITE = PasskeySite("pacs.example", ORIGIN)
PASSWORD = "correct horse battery"
HERE = Origin("192.0.2.9", "Firefox")
BY = Actor("test")
BROWSER = "the browser's own name"


@pytest.fixture(scope="module")
def stored_hash() -> str:
    return passwords.hashed(PASSWORD)


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def logins(accounts, clock) -> Logins:
    return Logins(accounts)


@pytest.fixture
def anna(accounts, stored_hash):
    user = UserChanges(accounts).add("anna", {EVERY_SITE: Role.SEE}, BY)
    accounts.set_password(user.id, stored_hash)
    return user


def add(logins, user, key: SecurityKey, name: str = "My phone", site: PasskeySite = SITE) -> list[str]:
    """Add the passkey of a key; return the recovery codes."""
    changes, exchange = UserChanges(logins.accounts), logins.passkeys.exchange
    handle = changes.handle_of(user)
    options = exchange.to_make(site, "session", user.name, handle, logins.passkeys.here(user.id, site))
    made = exchange.made(site, "session", key.make(options))
    return changes.add_passkey(user, made, site.rp_id, handle, name, BY)


@pytest.fixture
def key(logins, anna) -> SecurityKey:
    """Anna's, as a security key that counts."""
    key = SecurityKey(ORIGIN)
    key.recovery = add(logins, anna, key)
    return key


def alone(logins, key: SecurityKey, answer: str = "", site: PasskeySite = SITE, browser: str = BROWSER):
    answer = answer or key.sign(logins.passkeys.first_step(site, BROWSER))
    return logins.log_in_with_passkey(answer, site, browser, HERE)


@pytest.mark.parametrize(
    ("origin", "fault"),
    [
        ("https://pacs.example", ""), ("https://pacs.example:8042", ""), ("http://localhost:8042", ""),
        ("http://pacs.example", "open line"), ("http://127.0.0.1:8042", "address"), ("https://192.0.2.7", "address"),
        ("https://[2001:db8::7]:8042", "address"), ("http://localhost.example", "open line"),
    ],
)  # fmt: skip
def test_passkeys_need_a_name_and_an_encrypted_line(origin, fault):
    assert fault_of(origin) == fault
    assert (site_of(origin) is None) == bool(fault)


class TestAlone:
    def test_a_device_that_knows_its_user_is_enough(self, logins, anna, key):
        begun = alone(logins, key)
        assert logins.logged_in(begun.token).user.name == "anna"
        assert logins.logged_in(begun.token).user.has_second_factor
        (stored,) = logins.accounts.passkeys(anna.id)
        assert (stored.sign_count, stored.name, stored.used_at is not None) == (1, "My phone", True)
        assert AuditKind.LOGIN in {event.kind for event in logins.accounts.events(1)}

    def test_one_that_does_not_is_not(self, logins, key):
        key.flags = PRESENT
        with pytest.raises(LoginRefused):
            alone(logins, key)

    def test_nobody_at_the_device(self, logins, key):
        key.flags = 0
        with pytest.raises(LoginRefused):
            alone(logins, key)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("origin", "https://pacs.example.evil"), ("origin", "http://pacs.example"), ("rp_id", "example"),
            ("type", "webauthn.create"), ("is_framed", True), ("handle", "b3RoZXI"), ("handle", ""), ("id", b"other"),
        ],
    )  # fmt: skip
    def test_what_was_signed_elsewhere_or_for_something_else(self, logins, key, name, value):
        setattr(key, name, value)
        with pytest.raises(LoginRefused, match="wrong"):
            alone(logins, key)
        assert logins.accounts.events(1)[0].kind == AuditKind.LOGIN_FAILED

    def test_another_key(self, logins, key):
        other = SecurityKey(ORIGIN)
        other.id, other.handle, other.rp_id = key.id, key.handle, key.rp_id
        with pytest.raises(LoginRefused):
            alone(logins, other)

    def test_a_passkey_belongs_to_its_name(self, logins, key):
        other = PasskeySite("other.example", "https://other.example")
        key.rp_id, key.origin = other.rp_id, other.origin
        with pytest.raises(LoginRefused):
            alone(logins, key, site=other)

    def test_a_user_who_is_disabled(self, logins, anna, key, accounts):
        accounts.set_disabled(anna.id, is_disabled=True)
        with pytest.raises(LoginRefused, match="wrong"):
            alone(logins, key)

    @pytest.mark.parametrize("step", [0, 1])
    def test_an_answer_works_once(self, logins, key, step):
        """Also with a passkey that counts no uses."""
        key.step = step
        answer = key.sign(logins.passkeys.first_step(SITE, BROWSER))
        alone(logins, key, answer)
        with pytest.raises(LoginRefused, match="wrong"):
            alone(logins, key, answer)

    def test_an_answer_that_comes_twice_at_once_works_once(self, logins, key, monkeypatch):
        key.step = 0
        answer = key.sign(logins.passkeys.first_step(SITE, BROWSER))
        monkeypatch.setattr(Challenges, "is_open", lambda *_: True)  # both looked before one was used
        alone(logins, key, answer)
        with pytest.raises(LoginRefused):
            alone(logins, key, answer)

    def test_an_answer_for_another_browser_or_too_late(self, logins, key, clock):
        answer = key.sign(logins.passkeys.first_step(SITE, BROWSER))
        with pytest.raises(LoginRefused):
            alone(logins, key, answer, browser="another")
        clock.jump(minutes=6)
        with pytest.raises(LoginRefused):
            alone(logins, key, answer)

    def test_an_answer_after_the_end_of_the_process(self, logins, key, accounts):
        answer = key.sign(logins.passkeys.first_step(SITE, BROWSER))
        with pytest.raises(LoginRefused):
            alone(Logins(accounts), key, answer)

    def test_a_copy_is_noticed(self, logins, key, anna):
        alone(logins, key)
        alone(logins, key)
        key.count = 0
        with pytest.raises(LoginRefused, match="may be a copy"):
            alone(logins, key)
        event = logins.accounts.events(1)[0]
        assert (event.kind, event.who) == (AuditKind.PASSKEY_COPIED, "anna")
        key.step = 0
        with pytest.raises(LoginRefused, match="may be a copy"):
            alone(logins, key)

    def test_one_that_never_counts_is_none(self, logins, key):
        key.step = 0
        alone(logins, key)
        alone(logins, key)

    def test_guessing_has_to_wait(self, logins, key):
        for _ in range(20):
            with pytest.raises(LoginRefused):
                alone(logins, key, "{}")
        with pytest.raises(TooManyAttempts):
            alone(logins, key)

    @pytest.mark.parametrize(
        "answer",
        [
            "", "[]", "null", "{}", "{" * 5000, '{"id": 1}', "x" * 100_000, '{"rawId": "YQ", "id": "YQ"}', "\ud800",
            json.dumps({"id": "YQ", "rawId": "YQ", "type": "public-key", "response": {}}),
            json.dumps({"id": "YQ", "rawId": "YQ", "type": "x", "response": {"clientDataJSON": "e30"}}),
        ],
    )  # fmt: skip
    def test_what_a_stranger_sends_does_no_harm(self, logins, key, answer):
        with pytest.raises(LoginRefused, match="wrong"):
            alone(logins, key, answer or " ")
        with pytest.raises(PasskeyRefused):
            logins.passkeys.exchange.made(SITE, "session", answer)

    def test_parts_that_are_cut_or_changed(self, logins, key):
        whole = json.loads(key.sign(logins.passkeys.first_step(SITE, BROWSER)))
        for field, text in whole["response"].items():
            for other in ("", text[:-4], "AAAA" + text[4:], "ffff" * 20):
                changed = whole | {"response": whole["response"] | {field: other}}
                with pytest.raises((LoginRefused, TooManyAttempts)):
                    alone(logins, key, json.dumps(changed))


class TestAfterThePassword:
    def half(self, logins) -> str:
        begun = logins.log_in("anna", PASSWORD, HERE)
        assert logins.logged_in(begun.token) is None
        return begun.token

    def confirm(self, logins, token: str, answer: str):
        return logins.confirm_with_passkey(token, answer, SITE, HERE)

    def test_the_password_alone_opens_nothing(self, logins, anna, key):
        token = self.half(logins)
        key.flags = PRESENT  # the password has told who it is
        whole = self.confirm(logins, token, key.sign(logins.second_step(token, SITE)))
        assert logins.logged_in(whole.token).user.name == "anna"
        assert not logins.waits_for_code(token)

    def test_only_the_own_passkeys_count(self, logins, anna, key, accounts, stored_hash):
        ben = UserChanges(accounts).add("ben", {EVERY_SITE: Role.SEE}, BY)
        accounts.set_password(ben.id, stored_hash)
        of_ben = SecurityKey(ORIGIN)
        add(logins, ben, of_ben)
        token = self.half(logins)
        options = logins.second_step(token, SITE)
        assert [one["id"] for one in options["allowCredentials"]] == [accounts.passkeys(anna.id)[0].credential_id]
        with pytest.raises(LoginRefused):
            self.confirm(logins, token, of_ben.sign(options))

    def test_an_answer_for_another_login(self, logins, key):
        first, second = self.half(logins), self.half(logins)
        answer = key.sign(logins.second_step(first, SITE))
        with pytest.raises(LoginRefused):
            self.confirm(logins, second, answer)
        with pytest.raises(LoginRefused):  # nor does one for the login alone, which needs more
            self.confirm(logins, second, key.sign(logins.passkeys.first_step(SITE, BROWSER)))
        self.confirm(logins, first, answer)

    def test_recovery_codes_work_without_codes_of_an_app(self, logins, key):
        logins.confirm(self.half(logins), key.recovery[0], HERE)
        with pytest.raises(LoginRefused):
            logins.confirm(self.half(logins), key.recovery[0], HERE)
        with pytest.raises(LoginRefused):
            logins.confirm(self.half(logins), "000000", HERE)

    def test_elsewhere_there_is_none_to_ask_for(self, logins, key):
        token = self.half(logins)
        assert logins.second_step(token, None) is None
        assert logins.second_step(token, PasskeySite("other.example", "https://other.example")) is None
        assert logins.second_step("chosen", SITE) is None


class TestAdded:
    def test_several_with_one_handle_and_recovery_codes_once(self, logins, anna, key, accounts):
        second = SecurityKey(ORIGIN, step=0)
        assert add(logins, anna, second, "  Key   in the safe ") == []
        assert [one.name for one in accounts.passkeys(anna.id)] == ["My phone", "Key in the safe"]
        assert second.handle == key.handle
        assert alone(logins, second).user.name == alone(logins, key).user.name == "anna"
        known = logins.passkeys.exchange.to_make(SITE, "s", "anna", key.handle, accounts.passkeys(anna.id))
        assert len(known["excludeCredentials"]) == 2

    def test_never_twice(self, logins, anna, key, accounts, stored_hash):
        ben = UserChanges(accounts).add("ben", {EVERY_SITE: Role.SEE}, BY)
        with pytest.raises(InvalidSelection, match="in use"):
            add(logins, ben, key)
        assert accounts.recovery_codes_left(ben.id) == 0

    @pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\x1b[2J"])
    def test_a_name_that_cannot_be(self, logins, anna, name):
        with pytest.raises(InvalidSelection, match="1 to 64"):
            add(logins, anna, SecurityKey(ORIGIN), name)

    def test_not_without_end(self, logins, anna, key, monkeypatch):
        monkeypatch.setattr(user_changes, "_MOST_PASSKEYS", 1)
        with pytest.raises(InvalidSelection, match="at most 1"):
            add(logins, anna, SecurityKey(ORIGIN))

    @pytest.mark.parametrize(
        ("name", "value"), [("origin", "https://evil.example"), ("type", "webauthn.get"), ("flags", 0)]
    )
    def test_what_was_made_elsewhere(self, logins, anna, name, value):
        key = SecurityKey(ORIGIN)
        setattr(key, name, value)
        with pytest.raises(PasskeyRefused):
            add(logins, anna, key)

    def test_an_answer_for_another_session_or_twice(self, logins, anna):
        exchange, key = logins.passkeys.exchange, SecurityKey(ORIGIN)
        answer = key.make(exchange.to_make(SITE, "session", "anna", "aGFuZGxl", []))
        with pytest.raises(PasskeyRefused):
            exchange.made(SITE, "another", answer)
        exchange.made(SITE, "session", answer)
        with pytest.raises(PasskeyRefused):
            exchange.made(SITE, "session", answer)


class TestEnds:
    def test_with_the_last_one_the_password_is_enough_again(self, logins, anna, key, accounts):
        changes = UserChanges(accounts)
        (stored,) = accounts.passkeys(anna.id)
        ben = changes.add("ben", {EVERY_SITE: Role.SEE}, BY)
        with pytest.raises(InvalidSelection):
            changes.remove_passkey(ben, stored.id, BY)
        changes.remove_passkey(changes.found("anna"), stored.id, BY)
        assert accounts.recovery_codes_left(anna.id) == 0
        assert logins.log_in("anna", PASSWORD, HERE).session.is_complete
        with pytest.raises(LoginRefused):
            alone(logins, key)

    def test_codes_off_keep_the_recovery_codes_of_passkeys(self, logins, anna, key, accounts):
        changes = UserChanges(accounts)
        accounts.set_codes(anna.id, "GEZDGNBVGY3TQOJQ", None)
        changes.turn_codes_off(changes.found("anna"), BY)
        assert accounts.recovery_codes_left(anna.id) == 10
        again = changes.new_recovery_codes(changes.found("anna"), BY)
        assert set(again).isdisjoint(key.recovery)
        assert accounts.recovery_codes_left(anna.id) == 10

    def test_a_reset_takes_them_away(self, logins, anna, key, accounts, stored_hash):
        UserChanges(accounts).reset(anna, BY)
        accounts.set_password(anna.id, stored_hash)
        assert not UserChanges(accounts).found("anna").has_second_factor
        with pytest.raises(LoginRefused):
            alone(logins, key)


def test_a_challenge_fills_no_memory(clock):
    challenges = Challenges()
    first = challenges.new("anna")
    for _ in range(100):
        challenges.new("anna")
    assert challenges._used == {}
    assert challenges.is_open(first, "anna")
    assert challenges.use(first)
    assert not challenges.is_open(first, "anna")
    assert not challenges.use(first)
    clock.jump(minutes=6)
    assert challenges.use(challenges.new("ben"))
    assert len(challenges._used) == 1
