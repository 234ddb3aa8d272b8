"""Who the user of an Association is: each policy with each kind of identity, good and malformed (PS3.7 D.3.3.7)."""

from __future__ import annotations

import contextlib
import logging
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu_items import UserIdentitySubItemAC

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.dimse.association.access import Caller
from backup_scp.dimse.association.identification import Identification
from backup_scp.dimse.upper_layer.user_identity import IdentityKind, apart
from backup_scp.errors import AccountsUnavailable, ProviderRefused
from backup_scp.ports import EVERY_SITE, SEES_ALL, RemoteAE, Role, SiteScope, UserIdentity
from backup_scp.services import passwords
from backup_scp.services.association_logins import AssociationLogins
from backup_scp.services.token_logins import TokenUser
from backup_scp.services.user_changes import Actor, UserChanges
from tests.dimse.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    IMPLICIT,
    TIMEOUT_S,
    VERIFICATION,
    Peer,
    associate_rq,
    item,
    items,
    pdu,
)
from tests.processes import wait_until

ECHO = (VERIFICATION, (IMPLICIT,))
PASSCODE = "correct horse battery"
CANARIES = (PASSCODE, "sieben rote Lampen", "ey.token.canary", "misplaced-passcode")
PERMANENT, LATER = b"\0\1\2\1", b"\0\2\3\1"


def identity(kind: int, primary: bytes = b"", secondary: bytes = b"", *, wants_answer: int = 1) -> bytes:
    head = struct.pack(">BBH", kind, wants_answer, len(primary))
    return item(0x58, head + primary + struct.pack(">H", len(secondary)) + secondary)


NAME = identity(1, b"anna")
RIGHT = identity(2, b"Anna", PASSCODE.encode())
WRONG = identity(2, b"anna", b"sieben rote Lampen")
TOKEN = identity(5, b"ey.token.canary")
KERBEROS, SAML = identity(3, b"\x60\x82\1\0ticket"), identity(4, b"<saml:Assertion/>")
MALFORMED = {
    "empty": item(0x58, b""),
    "no primary length": item(0x58, b"\2\1\0"),
    "primary too long": item(0x58, b"\2\1\0\x09anna\0\0"),
    "no secondary length": item(0x58, b"\2\1\0\4anna"),
    "secondary too long": item(0x58, b"\2\1\0\4anna\0\x09ab"),
    "bytes behind it": item(0x58, b"\2\1\0\4anna\0\2abcd"),
    "secondary of a name": identity(1, b"anna", b"secret"),
    "no UTF-8": identity(2, b"\xff\xfe", b"x"),
    "type 0": identity(0, b"anna"),
    "type 6": identity(6, b"anna"),
    "type 255": identity(255, b"anna"),
}


@pytest.fixture(scope="module")
def stored_hash() -> str:
    return passwords.hashed(PASSCODE)


@pytest.fixture
def accounts(tmp_path, stored_hash):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        for name, roles in (("anna", {EVERY_SITE: Role.SEE}), ("ben", {"north": Role.RESTORE})):
            user = UserChanges(accounts).add(name, roles, Actor("test"))
            accounts.set_password(user.id, stored_hash)
        yield accounts


def user_of_token(token: str) -> TokenUser:
    if token != "ey.token.canary":
        raise ProviderRefused("The token is not good")
    return TokenUser("Anna", SiteScope.of(["north"]))


@pytest.fixture
def start(start_server, accounts):
    """Return `start(policy, users)`: a server whose one remote AE must say who its user is."""

    def start(policy: str, *users: str, tls=None):
        remote = RemoteAE("console", "TESTER", "127.0.0.1", user_identity=UserIdentity(policy), users=users)
        checks = Identification(AssociationLogins(accounts), user_of_token)
        return start_server(remotes=(remote,), identification=checks, tls=tls)

    return start


class Answer(NamedTuple):
    kind: int
    body: bytes

    @property
    def answered(self) -> list[bytes]:
        """The bodies of 59H in an A-ASSOCIATE-AC."""
        user = next(content for sub, content in items(self.body[68:]) if sub == 0x50)
        return [content for sub, content in items(user) if sub == 0x59]


def ask(running, sent: bytes) -> Answer:
    with Peer(running.port) as peer:
        answer = Answer(*peer.ask(associate_rq([ECHO], items=sent)))
        if answer.kind == ASSOCIATE_AC:
            peer.release()
        return answer


ACCEPTED, ANSWERED, REJECTED = "accepted", "answered", "rejected"
TABLE = {
    # policy: what each kind of identity gets
    "none": dict.fromkeys(("nothing", "name", "right", "wrong", "kerberos", "saml", "token", "malformed"), ACCEPTED),
    "name": {"name": ANSWERED, "right": ANSWERED, "wrong": ANSWERED},
    "password": {"right": ANSWERED},
    "token": {"token": ANSWERED},
}
SENT = {
    "nothing": b"",
    "name": NAME,
    "right": RIGHT,
    "wrong": WRONG,
    "kerberos": KERBEROS,
    "saml": SAML,
    "token": TOKEN,
    "malformed": MALFORMED["empty"],
}


@pytest.mark.parametrize("policy", TABLE)
def test_each_kind_of_identity_under_each_policy(start, policy):
    running = start(policy, *(["anna"] if policy != "none" else []))
    for kind, sent in SENT.items():
        expected = TABLE[policy].get(kind, REJECTED)
        answer = ask(running, sent)
        if expected is REJECTED:
            assert answer == (ASSOCIATE_RJ, PERMANENT), kind
        else:
            assert answer.kind == ASSOCIATE_AC, (kind, running.rejections)
            assert answer.answered == ([b"\0\0"] if expected is ANSWERED else []), kind


def test_no_answer_is_given_that_was_not_asked_for(start):
    running = start("password")
    answer = ask(running, identity(2, b"anna", PASSCODE.encode(), wants_answer=0))
    assert (answer.kind, answer.answered) == (ASSOCIATE_AC, [])


def test_another_toolkit_reads_the_answer(start):
    (content,) = ask(start("password"), RIGHT).answered
    read = UserIdentitySubItemAC()
    read.decode(item(0x59, content))
    assert read.server_response == b""


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_identity_says_nothing(start, malformed):
    running = start("password")
    assert ask(running, MALFORMED[malformed]) == (ASSOCIATE_RJ, PERMANENT)
    assert "a user identity that cannot be read" in running.rejections[-1][4]


def test_an_identity_whose_length_goes_beyond_the_request_is_aborted_as_any_other_item(start):
    running = start("password")
    whole = associate_rq([ECHO], items=RIGHT)
    cut = whole.replace(RIGHT, RIGHT[:2] + b"\x7f\xff" + RIGHT[4:])
    with Peer(running.port) as peer:
        assert peer.ask(cut)[0] == 7
    wait_until(lambda: running.rejections, TIMEOUT_S)
    assert "wrong length" in running.rejections[-1][4]


def test_of_two_identities_the_first_counts(start):
    assert ask(start("password"), WRONG + RIGHT) == (ASSOCIATE_RJ, PERMANENT)


def test_a_name_that_is_not_listed_is_rejected_and_not_repeated(start, caplog):
    caplog.set_level(logging.DEBUG)
    running = start("name", "ben")
    assert ask(running, identity(1, b"misplaced-passcode")) == (ASSOCIATE_RJ, PERMANENT)
    assert "users of [[remote]] console" in running.rejections[-1][4]
    assert "misplaced" not in caplog.text + repr(running.rejections)


def test_a_user_that_is_not_listed_is_rejected_with_the_right_passcode(start):
    assert ask(start("password", "ben"), RIGHT) == (ASSOCIATE_RJ, PERMANENT)


def test_no_secret_stands_in_log_rejections_or_memory_of_the_request(start, caplog):
    caplog.set_level(logging.DEBUG)
    running = start("password")
    for sent in (RIGHT, WRONG, TOKEN, identity(2, b"misplaced-passcode", b"x"), *MALFORMED.values()):
        ask(running, sent)
    said = caplog.text + repr(running.rejections) + repr(apart(associate_rq([ECHO], items=RIGHT))[0])
    assert not [canary for canary in CANARIES if canary in said]
    kept = b"".join(running.server._acceptances._known)
    assert b"TESTER" in kept
    assert not [canary for canary in CANARIES if canary.encode() in kept]


def test_too_many_failures_wait_and_are_told_apart(start):
    running = start("password")
    answers = [ask(running, WRONG) for _ in range(6)]
    assert answers[:5] == [(ASSOCIATE_RJ, PERMANENT)] * 5
    assert answers[5] == (ASSOCIATE_RJ, LATER)
    assert "Too many attempts" in running.rejections[-1][4]


def test_a_secret_without_tls_counts_from_this_machine_alone(start, accounts, secured):
    remote = RemoteAE("console", "DR1", "192.0.2.9", user_identity=UserIdentity.PASSWORD)
    checks = Identification(AssociationLogins(accounts))
    offered, _ = apart(associate_rq([ECHO], items=RIGHT))
    far = Caller("DR1", "192.0.2.9", remote, is_this_machine=False)
    caller, rejection = checks.identify(far, offered, is_secured=False)
    assert (caller.user, rejection is not None and rejection.diagnostic) == ("", 1)
    assert rejection is not None
    assert "without TLS" in rejection.reason
    caller, rejection = checks.identify(far, offered, is_secured=True)
    assert (caller.user, rejection) == ("anna", None)
    ours, theirs = secured
    running = start("password", tls=ours)
    with Peer(running.secured_port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO], items=RIGHT))[0] == ASSOCIATE_AC


def test_the_users_clinics_limit_those_of_the_remote(accounts):
    checks = Identification(AssociationLogins(accounts), user_of_token)
    offered, _ = apart(associate_rq([ECHO], items=identity(2, b"ben", PASSCODE.encode())))
    for sites, seen in (((), ["north"]), (("north", "south"), ["north"]), (("south",), [])):
        remote = RemoteAE("c", "DR1", "192.0.2.9", sites=sites, user_identity=UserIdentity.PASSWORD)
        caller, _ = checks.identify(Caller("DR1", "192.0.2.9", remote, is_this_machine=False), offered, is_secured=True)
        assert caller.scope == SiteScope.of(seen), sites
    assert Caller("DR1", "192.0.2.9", RemoteAE("c", "DR1", "h"), is_this_machine=False).scope == SEES_ALL


def test_a_database_of_users_that_does_not_answer_rejects_for_now(start_server):
    class Silent:
        def user(self, *_: object):
            raise AccountsUnavailable("The database of users does not answer")

    remote = RemoteAE("console", "TESTER", "127.0.0.1", user_identity=UserIdentity.PASSWORD)
    running = start_server(remotes=(remote,), identification=Identification(Silent()))
    assert ask(running, RIGHT) == (ASSOCIATE_RJ, LATER)


def test_without_a_check_nobody_is_let_in(start_server):
    for policy in (UserIdentity.PASSWORD, UserIdentity.TOKEN):
        remote = RemoteAE("console", "TESTER", "127.0.0.1", user_identity=policy)
        running = start_server(remotes=(remote,))
        assert ask(running, RIGHT if policy is UserIdentity.PASSWORD else TOKEN) == (ASSOCIATE_RJ, LATER)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_without_an_error(body):
    offered, rest = apart(associate_rq([ECHO], items=item(0x58, body)))
    assert offered is not None
    assert offered.kind in IdentityKind
    assert rest == associate_rq([ECHO])


@given(st.binary(max_size=40))
def test_a_request_without_an_identity_stays_as_it_is(body):
    for request in (associate_rq([ECHO], items=item(0x55, b"X" + body)), pdu(1, body), body):
        assert apart(request) == (None, request)
