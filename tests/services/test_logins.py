"""Logging in and out, on a real database of users."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyotp
import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.machine import clock as machine_clock
from backup_scp.ports import EVERY_SITE, AuditKind, Role
from backup_scp.services import one_time_codes, passwords
from backup_scp.services.logins import LoginRefused, Logins, Origin, SessionTimes, TooManyAttempts
from backup_scp.services.user_changes import Actor, UserChanges

PASSWORD = "correct horse battery"
HERE = Origin("192.0.2.9", "Firefox")
BY = Actor("test")


@pytest.fixture(scope="module")
def stored_hash() -> str:
    return passwords.hashed(PASSWORD)


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def logins(accounts, clock) -> Logins:
    return Logins(accounts, SessionTimes(timedelta(minutes=60), timedelta(hours=12)))


@pytest.fixture
def anna(accounts, stored_hash):
    user = UserChanges(accounts).add("anna", {EVERY_SITE: Role.SEE}, BY)
    accounts.set_password(user.id, stored_hash)
    return user


@pytest.fixture
def compared(monkeypatch) -> list[str]:
    """The hashes that passwords were compared with: how much work was done."""
    compared: list[str] = []
    verify = passwords._HASHER.verify

    class Noting:
        def __getattr__(self, name):
            return getattr(passwords_hasher, name)

        def verify(self, stored, password):
            compared.append(stored)
            return verify(stored, password)

    passwords_hasher = passwords._HASHER
    monkeypatch.setattr(passwords, "_HASHER", Noting())
    return compared


def refused(logins, name="anna", password="wrong wrong wrong", origin=HERE) -> str:
    with pytest.raises(LoginRefused) as raised:
        logins.log_in(name, password, origin)
    return str(raised.value)


def test_in_and_out(logins, anna):
    begun = logins.log_in(" Anna", PASSWORD, HERE)
    assert logins.logged_in(begun.token).user.name == "anna"
    assert begun.token not in repr(begun)
    logins.log_out(begun, HERE)
    assert logins.logged_in(begun.token) is None
    kinds = [event.kind for event in logins.accounts.events(10)]
    assert kinds == [AuditKind.LOGOUT, AuditKind.LOGIN, AuditKind.USER_ADDED]


def test_only_the_digest_is_stored(logins, anna, tmp_path):
    begun = logins.log_in("anna", PASSWORD, HERE)
    logins.accounts.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.sqlite*"))
    assert begun.session.digest.encode() in content
    assert begun.token.encode() not in content


def test_a_token_is_new_at_each_login_and_the_one_before_ends(logins, anna):
    first = logins.log_in("anna", PASSWORD, HERE)
    second = logins.log_in("anna", PASSWORD, HERE, instead_of=first.token)
    assert first.token != second.token
    assert logins.logged_in(first.token) is None
    assert logins.logged_in("chosen by somebody else") is None


def test_nobody_learns_which_names_there_are(logins, anna, accounts, compared):
    """Same sentence, same work: one comparison of a hash with the same parameters."""
    without = UserChanges(accounts).add("without", {EVERY_SITE: Role.SEE}, BY)
    disabled = UserChanges(accounts).add("disabled", {EVERY_SITE: Role.SEE}, BY)
    accounts.set_password(disabled.id, accounts.credentials_of(anna.id).password_hash)
    accounts.set_disabled(disabled.id, is_disabled=True)
    assert not without.has_password
    sentences = {refused(logins, name) for name in ("anna", "without", "nobody")}
    sentences.add(refused(logins, "disabled", PASSWORD))
    assert len(sentences) == 1
    assert [stored[:31] for stored in compared] == ["$argon2id$v=19$m=65536,t=3,p=4$"] * 4


def test_a_hash_with_older_parameters_is_replaced_and_sessions_stay(logins, anna, accounts):
    from argon2 import PasswordHasher

    accounts.set_password(anna.id, PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD))
    begun = logins.log_in("anna", PASSWORD, HERE)
    assert not passwords.is_outdated(accounts.credentials_of(anna.id).password_hash)
    again = logins.log_in("anna", PASSWORD, HERE)
    assert logins.logged_in(begun.token)
    assert logins.logged_in(again.token)


def test_a_second_factor_is_for_who_has_a_password(accounts, anna, clock):
    """Who comes through the provider alone has used one there, or was refused."""
    logins = Logins(accounts, needs_second_factor=True)
    begun = logins.log_in("anna", PASSWORD, HERE)
    assert logins.lacks_second_factor(begun)
    of_provider = UserChanges(accounts).add("ben", {EVERY_SITE: Role.SEE}, BY)
    known = accounts.credentials_of(of_provider.id)
    assert not logins.lacks_second_factor(logins.begin_session(known, HERE))


class TestTimes:
    def test_idle(self, logins, anna, clock):
        begun = logins.log_in("anna", PASSWORD, HERE)
        for _ in range(3):
            clock.jump(minutes=50)
            assert logins.logged_in(begun.token)
        clock.jump(minutes=61)
        assert logins.logged_in(begun.token) is None

    def test_longest(self, logins, anna, clock):
        begun = logins.log_in("anna", PASSWORD, HERE)
        for _ in range(14):
            clock.jump(minutes=50)
            logins.logged_in(begun.token)
        clock.jump(minutes=21)
        assert logins.logged_in(begun.token) is None

    def test_a_clock_that_was_ahead_leaves_no_session_that_lasts(self, logins, anna, clock):
        clock.jump(days=400)
        begun = logins.log_in("anna", PASSWORD, HERE)
        clock.jump(days=-400)
        assert logins.logged_in(begun.token) is None

    def test_ended_at_once(self, logins, anna, accounts):
        changes = UserChanges(accounts)
        changes.add("root", {EVERY_SITE: Role.ADMINISTER}, BY)
        for change in (lambda: changes.reset(anna, BY), lambda: changes.set_disabled(anna, BY, is_disabled=True)):
            accounts.set_disabled(anna.id, is_disabled=False)
            accounts.set_password(anna.id, passwords.hashed(PASSWORD))
            begun = logins.log_in("anna", PASSWORD, HERE)
            change()
            assert logins.logged_in(begun.token) is None


class TestCodes:
    SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

    @pytest.fixture
    def guarded(self, anna, accounts):
        accounts.set_codes(anna.id, self.SECRET, [one_time_codes.recovery_digest("abcd-efgh")])
        return anna

    def code(self) -> str:
        return pyotp.TOTP(self.SECRET).at(machine_clock.now())

    def test_the_password_alone_opens_nothing(self, logins, guarded, clock):
        half = logins.log_in("anna", PASSWORD, HERE)
        assert logins.logged_in(half.token) is None
        assert logins.waits_for_code(half.token)
        whole = logins.confirm(half.token, self.code(), HERE)
        assert logins.logged_in(whole.token).user.name == "anna"
        assert not logins.waits_for_code(half.token)
        assert whole.token != half.token

    def test_a_code_works_once(self, logins, guarded, clock):
        code = self.code()
        logins.confirm(logins.log_in("anna", PASSWORD, HERE).token, code, HERE)
        with pytest.raises(LoginRefused):
            logins.confirm(logins.log_in("anna", PASSWORD, HERE).token, code, HERE)
        clock.jump(seconds=30)
        logins.confirm(logins.log_in("anna", PASSWORD, HERE).token, self.code(), HERE)

    def test_a_recovery_code_works_once(self, logins, guarded):
        logins.confirm(logins.log_in("anna", PASSWORD, HERE).token, "ABCD EFGH", HERE)
        assert AuditKind.RECOVERY_CODE_USED in {event.kind for event in logins.accounts.events(5)}
        with pytest.raises(LoginRefused):
            logins.confirm(logins.log_in("anna", PASSWORD, HERE).token, "abcd-efgh", HERE)

    def test_it_must_come_soon(self, logins, guarded, clock):
        half = logins.log_in("anna", PASSWORD, HERE)
        clock.jump(minutes=6)
        with pytest.raises(LoginRefused, match="too long"):
            logins.confirm(half.token, self.code(), HERE)

    def test_guessing_it_takes_longer_each_time(self, logins, guarded):
        half = logins.log_in("anna", PASSWORD, HERE)
        for number in range(4):  # the password counts as an attempt, until the code is right
            with pytest.raises(LoginRefused):
                logins.confirm(half.token, f"{number:06}", HERE)
        with pytest.raises(TooManyAttempts):
            logins.confirm(half.token, self.code(), HERE)


class TestGuessing:
    def test_a_name_has_to_wait_from_wherever_it_is_tried(self, logins, anna):
        for number in range(5):
            refused(logins, "ANNA", origin=Origin(f"192.0.2.{number + 20}"))
        with pytest.raises(TooManyAttempts) as raised:
            logins.log_in("anna", PASSWORD, Origin("192.0.2.99"))
        assert 1 <= raised.value.wait_s <= 2

    def test_one_that_nobody_has_waits_as_well(self, logins):
        for _ in range(5):
            refused(logins, "nobody")
        with pytest.raises(TooManyAttempts):
            logins.log_in("nobody", PASSWORD, HERE)

    def test_the_user_is_not_locked_out_where_it_logged_in_before(self, logins, anna):
        logins.log_in("anna", PASSWORD, HERE)
        for number in range(5):
            refused(logins, origin=Origin(f"192.0.2.{number + 20}"))
        assert logins.log_in("anna", PASSWORD, HERE).user.name == "anna"

    def test_an_address_has_to_wait_whatever_names_it_tries(self, logins, compared):
        for number in range(20):
            refused(logins, f"name {number}")
        with pytest.raises(TooManyAttempts):
            logins.log_in("another", PASSWORD, HERE)
        assert len(compared) == 20  # who waits costs no work

    def test_the_end_of_the_process_opens_no_door_anew(self, logins, accounts, anna, tmp_path, compared):
        for number in range(5):
            refused(logins, origin=Origin(f"192.0.2.{number + 20}"))
        for number in range(20):
            refused(logins, f"name {number}")
        accounts.close()
        with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as opened_again:
            for name, origin in (("anna", Origin("192.0.2.99")), ("another", HERE)):
                with pytest.raises(TooManyAttempts):
                    Logins(opened_again).log_in(name, PASSWORD, origin)
        assert len(compared) == 25

    def test_a_guess_waits_for_no_disk(self, logins, accounts, anna, monkeypatch):
        monkeypatch.setattr(accounts._database, "writing", None)
        refused(logins)

    def test_many_at_once_are_no_way_round(self, logins, anna, compared):
        def attempt(number: int) -> str:
            try:
                logins.log_in("anna", "wrong wrong wrong", Origin(f"192.0.2.{number}"))
            except (LoginRefused, TooManyAttempts) as error:
                return type(error).__name__
            return ""

        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(attempt, range(20)))
        assert (answers.count("LoginRefused"), answers.count("TooManyAttempts")) == (5, 15)
        assert len(compared) == 5
