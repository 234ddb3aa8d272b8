"""The matrix of users: policy x listed users x what is said x address x TLS x service, and whose images each sees.

The expected answers come from ``expected``, which is written from docs/access.md and knows nothing of the program.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from joserfc import jwt

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.dimse.association.access import AccessPolicy, Caller
from backup_scp.dimse.association.identification import Identification
from backup_scp.dimse.upper_layer.user_identity import IdentityKind, OfferedIdentity
from backup_scp.errors import NotAuthorised
from backup_scp.openid.openid_provider import OpenIDProvider
from backup_scp.ports import (
    EVERY_SITE,
    SEES_ALL,
    SEES_NOTHING,
    FederatedIdentity,
    RemoteAE,
    RemoteService,
    Role,
    SiteScope,
    UserIdentity,
)
from backup_scp.services import passwords
from backup_scp.services.association_logins import AssociationLogins
from backup_scp.services.permissions import RIGHT_TO_USE, Right
from backup_scp.services.provider_roles import RoleRule
from backup_scp.services.token_logins import TokenLogins
from backup_scp.services.user_changes import Actor, UserChanges
from tests.openid.forger import KEY, OTHER_KEY, Forger

PASSCODE = "correct horse battery"
OURS, HOST = "192.0.2.254", "192.0.2.20"
HERE = "127.0.0.1"
ADDRESSES = {"host": HOST, "here": HERE, "elsewhere": "203.0.113.1"}
ALL, NORTH, NOTHING = "all", "north", "nothing"

USERS = {"anna": {EVERY_SITE: Role.SEE}, "ben": {"north": Role.RESTORE}, "cora": {}, "dora": {EVERY_SITE: Role.SEE}}


class Said(NamedTuple):
    """What a device says of its user, and what is true of it."""

    kind: IdentityKind
    name: str = ""
    secret: str = ""
    is_good: bool = True
    sees: str = ALL


SAID: dict[str, Said | None] = {
    "nothing": None,
    "what cannot be read": Said(IdentityKind.UNREADABLE),
    "a name": Said(IdentityKind.NAME, "Anna"),
    "the name of another": Said(IdentityKind.NAME, "ben"),
    "the name of nobody": Said(IdentityKind.NAME, "zoe"),
    "an empty name": Said(IdentityKind.NAME, ""),
    "name and passcode": Said(IdentityKind.PASSCODE, "Anna", PASSCODE),
    "name and passcode of one clinic": Said(IdentityKind.PASSCODE, "ben", PASSCODE, sees=NORTH),
    "name and passcode of one without a role": Said(IdentityKind.PASSCODE, "cora", PASSCODE, sees=NOTHING),
    "name and passcode of one who is disabled": Said(IdentityKind.PASSCODE, "dora", PASSCODE, is_good=False),
    "a wrong passcode": Said(IdentityKind.PASSCODE, "eve", "sieben rote Lampen", is_good=False),
    "no passcode": Said(IdentityKind.PASSCODE, "anna", "", is_good=False),
    "a Kerberos ticket": Said(IdentityKind.KERBEROS),
    "a SAML assertion": Said(IdentityKind.SAML),
    "a token": Said(IdentityKind.TOKEN, "anna"),
    "a token of one clinic": Said(IdentityKind.TOKEN, "ben", sees=NORTH),
    "a token of one without a role": Said(IdentityKind.TOKEN, "cora", is_good=False),
    "a token of another signer": Said(IdentityKind.TOKEN, "anna", is_good=False),
}
LISTS = {"nobody is listed": (), "anna is listed": ("anna",), "ben is listed": ("ben",)}
TAKEN = {
    "name": {IdentityKind.NAME, IdentityKind.PASSCODE},
    "password": {IdentityKind.PASSCODE},
    "token": {IdentityKind.TOKEN},
}


class Case(NamedTuple):
    """One caller of a node whose ``[[remote]]`` has this policy."""

    policy: str
    listed: str
    said: str
    address: str
    is_secured: bool
    trusts_this_machine: bool


CASES = [
    Case(*facts)
    for facts in itertools.product(UserIdentity, LISTS, SAID, ADDRESSES, (True, False), (True, False))
    if not (facts[0] == "name" and facts[1] == "nobody is listed") and not (facts[0] == "none" and LISTS[facts[1]])
]
MAY = frozenset({RemoteService.STORE, RemoteService.FIND})
"""What ``services`` of the entry names."""


def expected(case: Case) -> tuple[str, str, frozenset[RemoteService]]:
    """Return what docs/access.md promises: the user or "" or "rejected", whose images it sees, and what it may do."""
    is_trusted = case.address == "here" and case.trusts_this_machine
    if case.address == "elsewhere":  # anyone else: nobody asks for its user
        return "", NOTHING, frozenset({RemoteService.STORE, RemoteService.COMMIT})
    may = frozenset(RemoteService) if is_trusted else MAY
    said, listed = SAID[case.said], LISTS[case.listed]
    if case.policy == "none":
        return "", ALL, may
    if said is None or said.kind not in TAKEN[case.policy]:
        return "rejected", "", frozenset()
    if case.policy != "name" and not (said.is_good and (case.is_secured or case.address == "here")):
        return "rejected", "", frozenset()
    if listed and said.name.lower() not in listed:
        return "rejected", "", frozenset()
    return said.name.lower(), said.sees if case.policy != "name" else ALL, may


@pytest.fixture(scope="module")
def checks(tmp_path_factory) -> Iterator[tuple[Identification, dict[str, OfferedIdentity | None]]]:
    """Yield a node's check of users with real users and a real provider, and what devices say."""
    file = tmp_path_factory.mktemp("users") / "accounts.sqlite"
    with contextlib.closing(SQLAccounts.in_file(file)) as accounts, Forger().running() as forger:
        changes, stored = UserChanges(accounts), passwords.hashed(PASSCODE)
        for name, roles in USERS.items():
            identity = FederatedIdentity(forger.issuer, name)
            user = changes.add(name, {EVERY_SITE: Role.SEE}, Actor("test"), identity)
            accounts.set_roles(user.id, roles)  # those of a provider may be none
            accounts.set_password(user.id, stored)
            accounts.set_disabled(user.id, is_disabled=name == "dora")
        rules = (RoleRule(Role.SEE, group="everywhere"), RoleRule(Role.SEE, ("north",), group="north"))
        tokens = TokenLogins(accounts, OpenIDProvider(forger.registration()), rules)
        logins = AssociationLogins(accounts)
        offered = {what: _offered(what, said, forger) for what, said in SAID.items()}
        yield Identification(logins, tokens.user), offered


def _offered(what: str, said: Said | None, forger: Forger) -> OfferedIdentity | None:
    if said is None or said.kind is not IdentityKind.TOKEN:
        return said and OfferedIdentity(said.kind, name=said.name, passcode=said.secret)
    groups = {"anna": ["everywhere"], "ben": ["north"], "cora": []}[said.name]
    forger.claims = {"sub": said.name, "preferred_username": said.name, "groups": groups}
    key = OTHER_KEY if what == "a token of another signer" else KEY
    forger.sign = lambda header, claims: jwt.encode(header, claims, key)
    return OfferedIdentity(said.kind, name=forger.id_token())


def answer(
    checks: Identification, case: Case, offered: OfferedIdentity | None
) -> tuple[str, str, frozenset[RemoteService]]:
    """Return what the node does with this caller."""
    remote = RemoteAE(
        "viewer",
        "VIEWER",
        HOST,
        services=MAY,
        networks=(f"{HERE}/32",),
        user_identity=UserIdentity(case.policy),
        users=LISTS[case.listed],
    )
    policy = AccessPolicy((remote,), trust_this_machine=case.trusts_this_machine)
    caller = policy.identify("VIEWER", ADDRESSES[case.address], OURS)
    caller, rejection = checks.identify(caller, offered, is_secured=case.is_secured)
    if rejection is not None:
        return "rejected", "", frozenset()
    may = frozenset(service for service, right in RIGHT_TO_USE.items() if _may(policy, caller, right))
    return caller.user.lower(), _sees(caller.scope), may


def _may(policy: AccessPolicy, caller: Caller, right: Right) -> bool:
    try:
        policy.require(caller, right)
    except NotAuthorised:
        return False
    return True


def _sees(scope: SiteScope) -> str:
    return {SEES_ALL: ALL, SEES_NOTHING: NOTHING, SiteScope.of([NORTH]): NORTH}[scope]


@pytest.mark.parametrize("policy", UserIdentity)
def test_the_matrix_of_users(checks, policy):
    identification, offered = checks
    cases = [case for case in CASES if case.policy == policy]
    wrong = [
        (case, found, expected(case))
        for case in cases
        if (found := answer(identification, case, offered[case.said])) != expected(case)
    ]
    assert len(cases) >= len(SAID) * len(ADDRESSES) * 4
    assert wrong == []


@pytest.mark.parametrize("policy", set(UserIdentity) - {UserIdentity.NONE})
def test_the_matrix_has_every_outcome(policy):
    """An oracle that always says the same would agree with a broken node."""
    found = {expected(case) for case in CASES if case.policy == policy}
    assert {user for user, _, _ in found} == {"", "rejected", "anna", "ben"} | (
        {"cora"} if policy == "password" else set()
    )
    assert {sees for _, sees, _ in found} >= ({ALL, NOTHING} if policy == "name" else {ALL, NOTHING, NORTH})


def test_every_policy_and_every_kind_of_identity_is_in_the_matrix():
    assert {UserIdentity(policy) for policy in TAKEN} | {UserIdentity.NONE} == set(UserIdentity)
    assert {said.kind for said in SAID.values() if said} == set(IdentityKind)
