"""The user of an Association: a right passcode costs work once, and never a wrong one's delay."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.ports import EVERY_SITE, AuditKind, Role
from backup_scp.services import association_logins, passwords
from backup_scp.services.association_logins import AssociationLogins
from backup_scp.services.login_attempts import LoginRefused, Origin, TooManyAttempts
from backup_scp.services.user_changes import Actor, UserChanges

PASSCODE = "correct horse battery"
CONSOLE = Origin("192.0.2.9", "DR1")
BY = Actor("test")


@pytest.fixture(scope="module")
def stored_hash() -> str:
    return passwords.hashed(PASSCODE)


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def console(accounts, stored_hash):
    user = UserChanges(accounts).add("console", {EVERY_SITE: Role.SEE}, BY)
    accounts.set_password(user.id, stored_hash)
    return user


@pytest.fixture
def logins(accounts, console) -> AssociationLogins:
    return AssociationLogins(accounts)


@pytest.fixture
def compared(monkeypatch) -> list[str]:
    """The passwords that Argon2id compared."""
    compared: list[str] = []
    real = passwords.is_right

    def noting(stored: str, password: str) -> bool:
        compared.append(password)
        return real(stored, password)

    monkeypatch.setattr(passwords, "is_right", noting)
    return compared


def test_a_right_passcode_is_compared_once_and_audited_once(logins, accounts, compared):
    for name in ("console", "Console", "console"):
        assert logins.user(name, PASSCODE, CONSOLE).name == "console"
    assert len(compared) == 2  # the other spelling is another digest
    assert [event.kind for event in accounts.events(10)].count(AuditKind.LOGIN) == 2


def test_many_associations_at_once_cost_one_comparison_and_no_delay(logins, compared):
    with ThreadPoolExecutor(16) as threads:
        users = list(threads.map(lambda _: logins.user("console", PASSCODE, CONSOLE), range(32)))
    assert {user.name for user in users} == {"console"}
    assert compared == [PASSCODE]


def test_a_wrong_passcode_is_never_remembered_and_delays_the_next(logins, compared, accounts):
    for _ in range(5):
        with pytest.raises(LoginRefused):
            logins.user("console", "wrong", CONSOLE)
    with pytest.raises(TooManyAttempts):
        logins.user("console", "wrong", CONSOLE)
    assert len(compared) == 5
    assert [event.kind for event in accounts.events(10)].count(AuditKind.LOGIN_FAILED) == 5


def test_a_device_that_has_logged_in_is_not_kept_out_by_failures_elsewhere(logins):
    logins.user("console", PASSCODE, CONSOLE)
    for number in range(8):
        with contextlib.suppress(LoginRefused, TooManyAttempts):
            logins.user("console", "wrong", Origin(f"198.51.100.{number}", "EVIL"))
    assert logins.user("console", PASSCODE, CONSOLE).name == "console"


def test_who_is_disabled_changed_or_removed_is_refused_at_once(logins, accounts, console):
    logins.user("console", PASSCODE, CONSOLE)
    accounts.set_disabled(console.id, is_disabled=True)
    with pytest.raises(LoginRefused):
        logins.user("console", PASSCODE, CONSOLE)
    accounts.set_disabled(console.id, is_disabled=False)
    accounts.set_password(console.id, passwords.hashed("sieben rote Lampen"))
    with pytest.raises(LoginRefused):
        logins.user("console", PASSCODE, CONSOLE)
    assert logins.user("console", "sieben rote Lampen", CONSOLE).name == "console"
    accounts.remove_user(console.id)
    with pytest.raises(LoginRefused):
        logins.user("console", "sieben rote Lampen", CONSOLE)


def test_a_second_factor_is_no_way_round(logins, accounts, console):
    logins.user("console", PASSCODE, CONSOLE)
    accounts.set_codes(console.id, pyotp.random_base32(), [])
    with pytest.raises(LoginRefused, match="second factor"):
        logins.user("console", PASSCODE, CONSOLE)


def test_what_is_known_ends_after_an_hour(logins, compared, monkeypatch):
    logins.user("console", PASSCODE, CONSOLE)
    monkeypatch.setattr(association_logins, "_KEPT_S", -1.0)
    fresh = AssociationLogins(logins._accounts)
    fresh.user("console", PASSCODE, CONSOLE)
    fresh.user("console", PASSCODE, CONSOLE)
    assert len(compared) == 3


def test_the_memory_of_what_is_known_is_bounded(logins, monkeypatch):
    monkeypatch.setattr(association_logins, "_MOST_KEPT", 1)
    for name in ("console", "Console", "CONSOLE"):
        logins.user(name, PASSCODE, CONSOLE)
    assert len(logins._proofs) == 1


def test_a_text_that_is_too_long_costs_no_work(logins, compared):
    for name, passcode in (("x" * 513, "y"), ("x", "y" * 65535)):
        with pytest.raises(LoginRefused):
            logins.user(name, passcode, CONSOLE)
    assert compared == []
