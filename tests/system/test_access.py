"""Permissions: anyone stores, configured AEs and this machine query and retrieve, each refusal has a reason."""

from __future__ import annotations

import dataclasses

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation

from tests.dimse import wire
from tests.processes import LOOPBACK, connects, wait_until
from tests.samples import dx, encode, uid
from tests.system import raw_sender
from tests.system.node import Node, Remote
from tests.system.peers import echoscu, findscu, storescu
from tests.system.pynetdicom_peers import NATIVE, Sink, find, get, move

DX = str(DigitalXRayImageStorageForPresentation)
STUDY = {"StudyInstanceUID": uid("1")}
NOT_AUTHORISED = 0x0124
ECHO = (wire.VERIFICATION, (wire.IMPLICIT,))
CALLED_AE_TITLE_NOT_RECOGNISED = (1, 1, 7)  # PS3.8 9.3.4: permanent, by the service user


@dataclasses.dataclass(frozen=True)
class At:
    """The node, called at one of this machine's addresses, perhaps by another AE title."""

    host: str
    port: int
    ae_title: str = "BACKUP_SCP"


@pytest.fixture
def open_node(make_node):
    """Return `open_node(remotes=..., ...)`: a node that listens at every address and holds an image."""

    def start(*, remotes: list[Remote] | None = None, **node_settings: object) -> Node:
        node = make_node(remotes=remotes or [], settings={"node": {"host": "0.0.0.0", **node_settings}})
        node.start()
        assert node.send([encode(dx())])[0].status == 0
        return node

    return start


def may_query(called: At, calling: str) -> bool:
    """Tell whether C-FIND, C-GET and C-MOVE are served; all or none of them are."""
    found = find(called, "STUDY", STUDY, calling=calling)
    got, stored = get(called, "STUDY", STUDY, {DX: NATIVE}, calling=calling)
    moved = move(called, "NOWHERE", "STUDY", STUDY, calling=calling)
    statuses = (found.status, got[-1].status, moved[-1].status)
    if statuses == (0, 0, 0xA801):
        assert len(found.matches) == len(stored) == 1
        return True
    assert statuses == (NOT_AUTHORISED,) * 3
    assert all(said for said in (found.error_comment, got[-1].error_comment, moved[-1].error_comment))
    assert (found.matches, stored) == ((), [])
    return False


# ------------------------------------------------------------------------------------------------------ other machines


def test_a_stranger_may_echo_and_store_and_nothing_else(open_node, other_machine, tmp_path):
    node = open_node()
    called = At(other_machine.our_address, node.port)
    sample = encode(dx(study="2"))

    with other_machine.there():
        echoscu(called, calling="STRANGER")
        storescu(called, sample.write(tmp_path / "image.dcm"), calling="STRANGER")
        assert not may_query(called, "STRANGER")

    found = find(node, "STUDY", {"StudyInstanceUID": uid("2")})
    assert len(found.matches) == 1
    assert f"'STRANGER' at {other_machine.address} may not query" in node.output


def test_findscu_is_told_why(open_node, other_machine):
    node = open_node()

    with other_machine.there(), pytest.raises(AssertionError) as refused:
        findscu(At(other_machine.our_address, node.port), "STUDY", {"PatientID": ""}, calling="STRANGER")

    assert "DIMSE Status                  : 0x0124" in str(refused.value)
    assert "may not query" in str(refused.value)


def test_a_configured_remote_ae_may_query_from_its_address(open_node, other_machine):
    viewer = Remote("viewer", "VIEWER", 11113, host=other_machine.address)
    node = open_node(remotes=[viewer])
    called = At(other_machine.our_address, node.port)

    with other_machine.there():
        assert may_query(called, "VIEWER")
        assert not may_query(called, "ANOTHER")
        assert not may_query(called, "viewer")  # AE titles are case-sensitive, PS3.5 6.2


def test_its_ae_title_from_another_address_does_not_count(open_node, other_machine):
    viewer = Remote("viewer", "VIEWER", 11113, host="198.51.100.7")
    node = open_node(remotes=[viewer])
    called = At(other_machine.our_address, node.port)

    with other_machine.there():
        assert not may_query(called, "VIEWER")
        assert raw_sender.send(called, [encode(dx(study="2"))], calling="VIEWER")[0].status == 0


def test_the_address_is_not_looked_at_where_the_settings_say_so(open_node, other_machine):
    viewer = Remote("viewer", "VIEWER", 11113, host="198.51.100.7", check_address=False)
    node = open_node(remotes=[viewer])

    with other_machine.there():
        assert may_query(At(other_machine.our_address, node.port), "VIEWER")


def test_a_configured_remote_ae_may_be_denied_to_query(open_node, other_machine):
    console = Remote("console", "CONSOLE", 11113, host=other_machine.address, query=False)
    node = open_node(remotes=[console])

    with other_machine.there():
        assert not may_query(At(other_machine.our_address, node.port), "CONSOLE")


def test_two_remote_aes_of_one_title_are_told_apart_by_their_address(open_node, other_machine):
    here = Remote("here", "VIEWER", 11113, host="198.51.100.7", query=False)
    there = Remote("there", "VIEWER", 11113, host=other_machine.address)
    node = open_node(remotes=[here, there])

    with other_machine.there():
        assert may_query(At(other_machine.our_address, node.port), "VIEWER")


def test_an_image_goes_to_another_machine(open_node, other_machine):
    """A viewer over there queries and has it sent to itself, by the address of the settings."""
    viewer = Sink({DX: NATIVE}, ae_title="VIEWER", host=other_machine.address)
    node = open_node(remotes=[viewer.remote])
    with other_machine.there(), viewer:
        final = move(At(other_machine.our_address, node.port), "VIEWER", "STUDY", STUDY, calling="VIEWER")[-1]

    assert (final.status, final.completed) == (0, 1)
    assert [stored.data_set for stored in viewer.stored] == [encode(dx()).data_set]


# -------------------------------------------------------------------------------------------------------- this machine


def test_this_machine_may_query_without_settings(node):
    node.send([encode(dx())])

    assert may_query(At(node.host, node.port), "ANYONE")


def test_this_machine_may_query_at_each_of_its_addresses(open_node, other_machine):
    node = open_node()

    assert may_query(At(LOOPBACK, node.port), "ANYONE")
    assert may_query(At("localhost", node.port), "ANYONE")
    assert may_query(At(other_machine.our_address, node.port), "ANYONE")


def test_a_node_at_ipv6_knows_ipv4_callers(make_node):
    node = make_node(settings={"node": {"host": "::"}})
    node.start()
    node.send([encode(dx())])

    assert may_query(At(LOOPBACK, node.port), "ANYONE")
    assert may_query(At("::1", node.port), "ANYONE")


def test_a_move_goes_to_configured_aes_only(start_node):
    """The destination listens, and nobody calls it."""
    with Sink({DX: NATIVE}, ae_title="LISTENER") as sink:
        node = start_node()
        node.send([encode(dx())])
        assert connects(sink.port)

        final = move(node, "LISTENER", "STUDY", STUDY)[-1]

    assert final.status == 0xA801
    assert "LISTENER" in final.error_comment
    assert sink.stored == []


# ------------------------------------------------------------------------------------------------------------ AE title


def test_another_called_ae_title_is_rejected_and_shown(node):
    with pytest.raises(raw_sender.AssociationRefusedError) as rejected:
        raw_sender.Association(At(node.host, node.port, "ARCHIVE"), calling="CONSOLE")

    assert rejected.value.args == (3, *CALLED_AE_TITLE_NOT_RECOGNISED)
    assert "Called AE Title Not Recognized" in echoscu(At(node.host, node.port, "ARCHIVE"), exit_code=None).stdout
    assert echoscu(node).returncode == 0
    shown = node.cli("status", exit_code=1).stdout
    assert "CONSOLE at 127.0.0.1" in shown
    assert "it calls us 'ARCHIVE', and our AE title is BACKUP_SCP" in shown
    assert "set the called AE title to BACKUP_SCP" in shown
    (row,) = [row for row in node.json("status", exit_code=None)["rejections"] if row["calling_ae_title"] == "CONSOLE"]
    assert (row["called_ae_title"], row["count"]) == ("ARCHIVE", 1)


@pytest.mark.parametrize(
    ("request_pdu", "shown"),
    [
        (wire.associate_rq([ECHO], calling=b""), "its calling AE title is blank"),
        (wire.associate_rq([ECHO], version=2), "protocol version 0x0002"),
        (wire.associate_rq([], context_items=wire.item(0x20, b"\1")), "a Presentation Context of 1 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "it sent HTTP, and this port speaks DICOM"),
    ],
    ids=["blank", "version", "unreadable", "HTTP"],
)
def test_who_is_turned_away_by_the_protocol_is_shown_with_the_value(node, request_pdu, shown):
    with wire.Peer(node.port) as peer:
        assert peer.ask(request_pdu)[0] in {wire.ASSOCIATE_RJ, wire.ABORT}
    wait_until(lambda: shown in node.cli("status", exit_code=None).stdout, what="the line in the status")
    assert shown in node.output


def test_the_called_ae_title_is_matched_with_case_and_without_padding(node):
    with pytest.raises(raw_sender.AssociationRefusedError):
        raw_sender.Association(At(node.host, node.port, "backup_scp"))

    assert raw_sender.echo(At(node.host, node.port, " BACKUP_SCP"))


def test_every_called_ae_title_is_taken_where_the_settings_say_so(start_node):
    node = start_node(settings={"node": {"check_called_ae_title": False}})

    assert raw_sender.echo(At(node.host, node.port, "ANY"))
    assert node.json("status", exit_code=None)["rejections"] == []


def test_what_a_caller_writes_cannot_forge_a_line_of_the_log(node):
    with pytest.raises(raw_sender.AssociationRefusedError):
        raw_sender.Association(At(node.host, node.port, "A\nFORGED"), calling="B\x1b[31m")

    assert "\nFORGED" not in node.output
    assert "\x1b" not in node.output
    assert "\x1b" not in node.cli("status", exit_code=1).stdout
