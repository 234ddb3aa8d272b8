"""User Identity Negotiation with a running node: pynetdicom with each type, over TLS, and no secret anywhere."""

from __future__ import annotations

import contextlib
import ssl
from functools import partial

import pytest
import trustme
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.ports import EVERY_SITE, Role
from backup_scp.services import passwords
from backup_scp.services.user_changes import Actor, UserChanges
from tests.dimse.wire import STUDY_ROOT_FIND, VERIFICATION
from tests.openid.forger import CLIENT, Forger
from tests.processes import LOOPBACK, connects, free_port, wait_until
from tests.system.node import Node

pytestmark = pytest.mark.system

PASSCODE, WRONG, TOKEN = "canary one two three", "canary-wrong-passcode", "eyJ.canary.token"


def identity(kind: int, primary: bytes, secondary: bytes = b"") -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type, item.positive_response_requested = kind, True
    item.primary_field, item.secondary_field = primary, secondary
    return item


def call(port: int, offered: UserIdentityNegotiation | None, tls: ssl.SSLContext | None = None):
    """Return what an A-ASSOCIATE-RQ gets: the server response, "no response", or result, source and reason."""
    caller = AE("DR1")
    caller.add_requested_context(VERIFICATION)
    caller.add_requested_context(STUDY_ROOT_FIND)
    association = caller.associate(
        LOOPBACK,
        port,
        ae_title="BACKUP_SCP",
        ext_neg=[offered] if offered else [],
        tls_args=(tls, "node.clinic.example") if tls else None,
    )
    if not association.is_established:
        answer = association.acceptor.primitive
        assert answer is not None
        return answer.result, answer.result_source, answer.diagnostic
    assert association.send_c_echo().Status == 0
    answered = association.acceptor.user_identity
    association.release()
    return "no response" if answered is None else answered.server_response


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def node(make_node, authority, tmp_path):
    """A node with a port for TLS; its console must say name and passcode."""
    leaf = authority.issue_cert("node.clinic.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    tls = {"certificate": str(tmp_path / "node.pem"), "port": free_port()}
    node: Node = make_node(settings={"tls": tls, "log": {"level": "DEBUG"}})
    with contextlib.closing(SQLAccounts.in_file(node.home / "accounts.sqlite")) as accounts:
        user = UserChanges(accounts).add("console", {EVERY_SITE: Role.SEE}, Actor("test"))
        accounts.set_password(user.id, passwords.hashed(PASSCODE))
    return node


def start(node: Node, openid: dict | None = None, **keys: object) -> None:
    node.write_settings()
    values = {"name": "console", "ae_title": "DR1", "host": LOOPBACK} | keys
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in values.items()
    ]
    written = node.config.read_text() + "\n[[remote]]\n" + "\n".join(lines) + "\n"
    if openid:
        quoted = {
            key: f"[{', '.join(value)}]" if isinstance(value, list) else repr(value) for key, value in openid.items()
        }
        written += "\n[web.openid_connect]\n" + "".join(f"{key} = {value}\n" for key, value in quoted.items())

    def write_settings() -> None:
        node.config.write_text(written)

    node.write_settings = write_settings  # type: ignore[method-assign]
    node.start()


def test_name_and_passcode_over_tls_and_what_everything_else_gets(node, authority):
    start(node, user_identity="password")
    tls_port = int(node.settings["tls"]["port"])
    wait_until(lambda: connects(tls_port), what="the port with TLS")
    context = ssl.create_default_context()
    authority.configure_trust(context)

    assert call(tls_port, identity(2, b"console", PASSCODE.encode()), context) == b""
    assert call(node.port, identity(2, b"console", PASSCODE.encode())) == b""  # nothing leaves this machine
    for offered in (
        identity(2, b"console", WRONG.encode()),
        identity(1, b"console"),
        identity(3, b"canary-ticket"),
        identity(4, b"<canary-saml/>"),
        identity(5, TOKEN.encode()),
        None,
    ):
        assert call(node.port, offered) == (1, 2, 1)

    def told(words: str) -> bool:
        return any(words in each["reason"] for each in node.json("status", exit_code=None)["rejections"])

    for words in (
        "sends a Kerberos ticket, which this node cannot check",
        "sends no user identity, and user_identity of [[remote]] console asks for",
    ):
        wait_until(partial(told, words), what=words)
    node.stop()
    assert "as 'console'" in node.output
    files = [node.output.encode(), *(path.read_bytes() for path in node.home.rglob("*") if path.is_file())]
    assert not [found for found in files if b"canary" in found]


def test_a_name_of_the_list(node):
    start(node, user_identity="name", users=["reader"])
    assert call(node.port, identity(1, b"Reader")) == b""
    assert call(node.port, identity(1, b"writer")) == (1, 2, 1)


def test_a_token_of_the_provider_of_logins(node):
    with Forger().running() as forger:
        role = '{role = "see", group = "radiology"}'
        start(node, user_identity="token", openid={"issuer": forger.issuer, "client_id": CLIENT, "roles": [role]})
        forger.claims = {"groups": ["radiology"], "preferred_username": "anna"}
        assert call(node.port, identity(5, forger.id_token().encode())) == b""
        forger.claims["groups"] = ["kitchen"]
        for refused in (identity(5, forger.id_token().encode()), identity(5, TOKEN.encode()), identity(1, b"anna")):
            assert call(node.port, refused) == (1, 2, 1)
        forger.claims, forger.header = {}, {"kid": "canary-key"}
        assert call(node.port, identity(5, forger.id_token().encode())) == (1, 2, 1)
        node.stop()
    assert "as 'anna'" in node.output
    assert "canary" not in node.output


def test_by_default_what_is_said_is_ignored(node):
    start(node)
    assert call(node.port, identity(2, b"nobody", WRONG.encode())) == "no response"
    assert call(node.port, None) == "no response"
