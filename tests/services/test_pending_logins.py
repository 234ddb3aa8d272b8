"""Logins that have begun at a provider: once, for one browser, and nobody pushes out the logins of others."""

from __future__ import annotations

import pytest

from backup_scp.ports import EVERY_SITE, FederatedIdentity, Person, ProviderLogin, Role
from backup_scp.services import pending_logins
from backup_scp.services.pending_logins import WITHIN_S, PendingLogin, PendingLogins
from backup_scp.services.provider_roles import RoleRule, roles_of

MANY = 30


class Watch:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def pending(state: str, network: str = "192.0.2.1") -> PendingLogin:
    return PendingLogin(ProviderLogin("https://login.example", state, "nonce", "verifier"), network=network)


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def logins(watch):
    return PendingLogins(watch)


def test_taken_once_by_who_has_begun_it(logins):
    token, other = logins.add(pending("a")), logins.add(pending("b"))
    assert token != other
    assert logins.take(token, "b") is None
    assert logins.take(other, "a") is None
    assert logins.take("", "a") is None
    assert logins.take(token, "a") == pending("a")
    assert logins.take(token, "a") is None


def test_it_ends(logins, watch):
    token = logins.add(pending("a"))
    watch.now = WITHIN_S + 1
    assert logins.take(token, "a") is None
    logins.add(pending("b"))
    assert len(logins._pending) == 1


def test_very_many_from_one_place_push_out_their_own(logins, monkeypatch):
    monkeypatch.setattr(pending_logins, "_MOST_OF_NETWORK", MANY)
    clinic = logins.add(pending("clinic", "198.51.100.7"))
    first = logins.add(pending("first"))
    tokens = [logins.add(pending(f"{number}")) for number in range(MANY)]
    assert logins.take(first, "first") is None
    assert logins.take(tokens[0], "0")
    assert logins.take(clinic, "clinic")


def test_memory_has_a_limit(logins, monkeypatch):
    monkeypatch.setattr(pending_logins, "_MOST", MANY)
    for number in range(3 * MANY):
        logins.add(pending("a", f"192.0.2.{number}"))
    assert len(logins._pending) == MANY


SEE, RESTORE, ADMINISTER = Role.SEE, Role.RESTORE, Role.ADMINISTER
RULES = [
    RoleRule(RESTORE, ("north",), group="a"),
    RoleRule(SEE, ("north", "south"), group="b"),
    RoleRule(SEE, group="c"),
    RoleRule(ADMINISTER, group="d"),
    RoleRule(SEE, ("east",), email_domain="clinic.example"),
]


@pytest.mark.parametrize(
    ("groups", "email", "roles"),
    [
        ("", "", {}),
        ("A", "", {}),
        ("a", "", {"north": RESTORE}),
        ("ab", "", {"north": RESTORE, "south": SEE}),
        ("ba", "", {"north": RESTORE, "south": SEE}),
        ("ac", "", {"north": RESTORE, EVERY_SITE: SEE}),
        ("cd", "", {EVERY_SITE: ADMINISTER}),
        ("", "x@clinic.example", {"east": SEE}),
        ("", "x@evil-clinic.example", {}),
        ("", "clinic.example", {}),
        ("", "x@clinic.example@evil.example", {}),
    ],
)
def test_the_roles_of_a_person(groups, email, roles):
    person = Person(FederatedIdentity("https://login.example", "1"), email=email, groups=frozenset(groups))
    assert roles == roles_of(person, RULES)
