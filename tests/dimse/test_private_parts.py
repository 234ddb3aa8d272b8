"""The private parts of pynetdicom that docs/adr/0017 lists: present, in the shape that the upper layer counts on."""

from __future__ import annotations

import ast
import inspect
import queue
import re
import socket
from pathlib import Path

import pydicom.config
import pytest
from pynetdicom import AE, _config, _globals, fsm
from pynetdicom.acse import ACSE
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE
from pynetdicom.service_class import NonPatientObjectStorageServiceClass, ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AssociationSocket

import backup_scp.dimse

ADR = Path(__file__).parents[2] / "docs" / "adr" / "0017-the-upper-layer.md"
CHANGED = "pynetdicom {what}: backup_scp.dimse counts on it, see docs/adr/0017"

# Owner -> name -> parameters of a method (without self), or None for an attribute or property.
PARTS: dict[type, dict[str, list[str] | None]] = {
    DULServiceProvider: {
        "__init__": ["assoc"],
        "_decode_pdu": ["bytestream"],
        "_process_recv_primitive": [],
        "_send": ["pdu"],
        "send_pdu": ["primitive"],
        "receive_pdu": ["wait", "timeout"],
        "stop_dul": [],
        "kill_dul": [],
        "assoc": None,
        "_recv_pdu": None,
        "event_queue": None,
        "to_provider_queue": None,
        "to_user_queue": None,
        "state_machine": None,
        "artim_timer": None,
        "socket": None,
    },
    Association: {
        "__init__": ["ae", "mode"],
        "abort": ["block"],
        "kill": [],
        "set_socket": ["socket"],
        "acse_timeout": None,
        "dul": None,
        "acse": None,
        "requestor": None,
        "acceptor": None,
    },
    ServiceUser: {
        "address_info": None,
    },
    ACSE: {
        "send_release": ["is_response"],
        "send_abort": ["source"],
        "negotiate_release": [],
    },
    AssociationSocket: {
        "__init__": ["assoc", "client_socket"],
        "close": [],
        "_shutdown_socket": [],
        "socket": None,
    },
}
METHODS = [(o, n, p) for o, parts in PARTS.items() for n, p in parts.items() if p is not None]
ATTRIBUTES = [(o, n) for o, parts in PARTS.items() for n, p in parts.items() if p is None]


@pytest.fixture
def association():
    return Association(AE("TEST"), _globals.MODE_ACCEPTOR)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), METHODS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_method_has_its_parameters(owner, name, parameters):
    method = getattr(owner, name, None)
    assert callable(method), CHANGED.format(what=f"{owner.__name__} has no method {name} any more")
    found = list(inspect.signature(method).parameters)[1:]
    assert found[: len(parameters)] == parameters, CHANGED.format(
        what=f"{owner.__name__}.{name} takes ({', '.join(found)}), not ({', '.join(parameters)})"
    )
    required = [p for p in list(inspect.signature(method).parameters.values())[1:] if p.default is p.empty]
    assert len(required) <= len(parameters), CHANGED.format(what=f"{owner.__name__}.{name} asks for more parameters")


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_attribute_is_there(owner, name, association, pair):
    objects = {
        DULServiceProvider: association.dul,
        Association: association,
        ServiceUser: association.requestor,
        AssociationSocket: AssociationSocket(association, client_socket=pair[0]),
    }
    found = name in vars(objects[owner]) or isinstance(inspect.getattr_static(owner, name, None), property)
    assert found, CHANGED.format(what=f"{owner.__name__} has no attribute {name} any more")


def test_the_queues_are_queues(association):
    for name in ("_recv_pdu", "event_queue", "to_provider_queue", "to_user_queue"):
        found = getattr(association.dul, name)
        assert isinstance(found, queue.Queue), CHANGED.format(
            what=f"DULServiceProvider.{name} is no queue.Queue any more"
        )


@pytest.mark.parametrize(
    ("stream", "event"),
    [
        (b"\3\0\0\0\0\4\0\1\1\1", "Evt4"),
        (b"\4\0\0\0\0\6\0\0\0\2\1\3", "Evt10"),
        (b"\5\0\0\0\0\4\0\0\0\0", "Evt12"),
        (b"\6\0\0\0\0\4\0\0\0\0", "Evt13"),
        (b"\7\0\0\0\0\4\0\0\0\0", "Evt16"),
    ],
)
def test_decode_pdu_returns_a_pdu_and_its_event(association, stream, event):
    pdu, found = association.dul._decode_pdu(bytearray(stream))
    assert found == event, CHANGED.format(what="_decode_pdu names another event")
    assert pdu.encode() == stream, CHANGED.format(what="_decode_pdu returns something else than a PDU")


@pytest.mark.parametrize("stream", [b"\1\0\0\0\0\2\0\1", b"\x42\0\0\0\0\0"])
def test_decode_pdu_raises_at_what_is_none(association, stream):
    with pytest.raises(Exception):  # noqa: B017 - which one is its own affair
        association.dul._decode_pdu(bytearray(stream))


def primitive(kind: type, **values: object) -> object:
    made = kind()
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        (primitive(A_ASSOCIATE), "Evt1"),
        (primitive(A_ASSOCIATE, result=0), "Evt7"),
        (primitive(A_ASSOCIATE, result=1), "Evt8"),
        (primitive(A_RELEASE), "Evt11"),
        (primitive(A_RELEASE, result="affirmative"), "Evt14"),
        (primitive(A_ABORT), "Evt15"),
        (primitive(A_P_ABORT), "Evt15"),
    ],
)
def test_a_primitive_of_the_user_becomes_its_event_and_stays_queued(association, sent, event):
    dul = association.dul
    dul.to_provider_queue.put(sent)
    assert dul._process_recv_primitive() is True
    assert dul.event_queue.get_nowait() == event, CHANGED.format(what="_process_recv_primitive names another event")
    assert dul.to_provider_queue.get_nowait() is sent, CHANGED.format(
        what="_process_recv_primitive takes the primitive"
    )
    assert dul._process_recv_primitive() is False


def test_an_accepted_socket_puts_evt5_and_close_puts_evt17(association, pair):
    wrapped = AssociationSocket(association, client_socket=pair[0])
    assert association.dul.event_queue.get_nowait() == "Evt5", CHANGED.format(what="AssociationSocket puts no Evt5")
    wrapped.close()
    assert wrapped.socket is None, CHANGED.format(what="AssociationSocket.close keeps its socket")
    assert association.dul.event_queue.get_nowait() == "Evt17", CHANGED.format(what="AssociationSocket puts no Evt17")


def test_close_goes_through_shutdown_socket(association, pair, monkeypatch):
    called = []
    monkeypatch.setattr(AssociationSocket, "_shutdown_socket", lambda _: called.append(True))
    AssociationSocket(association, client_socket=pair[0]).close()
    assert called, CHANGED.format(what="AssociationSocket.close does not call _shutdown_socket")


STATES = {  # event, state -> the action of PS3.8 Table 9-10 that the upper layer builds on
    ("Evt5", "Sta1"): "AE-5",
    ("Evt15", "Sta5"): "AA-1",
    ("Evt16", "Sta5"): "AA-3",
    ("Evt19", "Sta5"): "AA-8",
    ("Evt15", "Sta7"): "AA-1",
    ("Evt16", "Sta7"): "AA-3",
    ("Evt19", "Sta7"): "AA-8",
    ("Evt6", "Sta2"): "AE-6",
    ("Evt7", "Sta3"): "AE-7",
    ("Evt8", "Sta3"): "AE-8",
    ("Evt12", "Sta6"): "AR-2",
    ("Evt14", "Sta8"): "AR-4",
    ("Evt15", "Sta6"): "AA-1",
    ("Evt17", "Sta6"): "AA-4",
    ("Evt17", "Sta13"): "AR-5",
    ("Evt18", "Sta13"): "AA-2",
    ("Evt19", "Sta2"): "AA-1",
    ("Evt19", "Sta6"): "AA-8",
    ("Evt19", "Sta13"): "AA-7",
}


@pytest.mark.parametrize(("at", "action"), STATES.items())
def test_the_state_machine_has_its_table(at, action):
    assert fsm.TRANSITION_TABLE.get(at) == action, CHANGED.format(what=f"fsm.TRANSITION_TABLE{at} is not {action}")


def test_the_state_machine_raises_where_the_table_has_nothing(association):
    machine = association.dul.state_machine
    assert machine.current_state == "Sta1", CHANGED.format(what="StateMachine.current_state does not begin with Sta1")
    with pytest.raises(fsm.InvalidEventError):
        machine.do_action("Evt15")


def test_the_configuration_has_its_names():
    for name in ("LOG_HANDLER_LEVEL", "VALIDATORS", "CODECS"):
        assert hasattr(_config, name), CHANGED.format(what=f"_config.{name} is gone")
    assert set(_config.VALIDATORS) == {"AE", "UI"}, CHANGED.format(what="_config.VALIDATORS has other keys")
    assert (_globals.MODE_ACCEPTOR, _globals.MODE_REQUESTOR) == ("acceptor", "requestor")
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE


def test_unknown_sop_classes_have_the_bare_service_class():
    sentence = CHANGED.format(what="uid_to_service_class sorts otherwise")
    assert uid_to_service_class("1.2.3.4") is ServiceClass, sentence
    assert uid_to_service_class("1.2.840.10008.5.1.4.1.1.2") is StorageServiceClass, sentence
    assert uid_to_service_class("1.2.840.10008.5.1.4.38.1") is NonPatientObjectStorageServiceClass, sentence


# --------------------------------------------------------------------------------------------- the list is complete


SOURCES = sorted(Path(str(backup_scp.dimse.__path__[0])).rglob("*.py"))
FOLDER = "upper_layer"


def test_only_one_folder_knows_them():
    private = {name for parts in PARTS.values() for name in parts if name.startswith("_") and name != "__init__"}
    found = []
    for path in SOURCES:
        if path.parent.name == FOLDER:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pynetdicom"):
                names = [str(node.module), *(alias.name for alias in node.names)]
                found += [f"{path.name}: {name}" for name in names if "._" in name or name.startswith("_")]
            elif isinstance(node, ast.Attribute) and node.attr in private and not _is_self(node.value):
                found.append(f"{path.name}: {node.attr}")
    assert not found, f"private parts of pynetdicom outside backup_scp/dimse/{FOLDER}: {found}"


def test_the_adr_lists_each_of_them():
    text = ADR.read_text("utf-8")
    for owner, parts in PARTS.items():
        (row,) = re.findall(rf"^\| `{owner.__name__}` \|(.*)\|$", text, re.MULTILINE)
        listed = set(re.findall(r"`(\w+)`", row))
        missing = {name for name in parts if name.startswith("_") and name != "__init__"} - listed
        assert not missing, f"docs/adr/0017 does not list {owner.__name__}'s {', '.join(sorted(missing))}"


def test_the_code_uses_no_private_part_that_is_not_listed():
    own = {"_associations", "_listener"}  # names that start alike but are our own are found in the code itself
    listed = {name for parts in PARTS.values() for name in parts}
    used: dict[str, str] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                own.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                own |= {
                    n.attr for t in targets for n in ast.walk(t) if isinstance(n, ast.Attribute) and _is_self(n.value)
                }
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                used.setdefault(node.attr, path.name)
    unlisted = {name: file for name, file in used.items() if name not in own | listed}
    assert not unlisted, f"private parts that tests/dimse/test_private_parts.py does not list: {unlisted}"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"
