"""The tables of docs/conformance-statement.md on Associations, negotiated with a running node.

Not provoked here but in ``tests/network``: the rejection of those who come while the node stops, or are too many at one
address.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import ServiceUser
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from tests import statement
from tests.dimse import wire
from tests.processes import wait_until
from tests.samples import PRIVATE_SOP_CLASS, PRIVATE_TRANSFER_SYNTAX, dx, encode, uid
from tests.system import raw_sender
from tests.system.node import Node
from tests.system.pynetdicom_peers import (
    FIND,
    GET,
    MOVE,
    NATIVE,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    Sink,
    association,
    move,
)
from tests.system.test_access import At

CT, DX = str(CTImageStorage), str(DigitalXRayImageStorageForPresentation)
VERIFICATION, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
COMMITMENT_PULL = "1.2.840.10008.1.20.2"
MODELS = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)


def uids(title: str, column: str = "SOP Class UID") -> list[str]:
    return [row[column] for row in statement.table(title)]


STORAGE = uids("SOP Classes of Storage")
OTHERS = uids("SOP Classes of Verification, Storage Commitment and Query/Retrieve")
REFUSED = uids("Some of the SOP Classes that are refused")
SYNTAXES = {row["UID"]: row["Chosen"] for row in statement.table("Transfer Syntaxes of Storage")}
NATIVE_SYNTAXES = uids("Transfer Syntaxes of Verification, Storage Commitment and Query/Retrieve", "UID")


class Listener(Sink):
    """A Move Destination that records its callers."""

    def __init__(self) -> None:
        super().__init__({DX: NATIVE})
        self.requestors: list[ServiceUser] = []

    def _store(self, event: evt.Event) -> int:
        self.requestors.append(event.assoc.requestor)
        return super()._store(event)


@pytest.fixture(scope="module")
def listener():
    with Listener() as listener:
        yield listener


@pytest.fixture(scope="module")
def node(tmp_path_factory, listener):
    node = Node(tmp_path_factory.mktemp("negotiation") / "node", remotes=[listener.remote])
    node.start()
    yield node
    node.close()


# -------------------------------------------------------------------------------------------- Presentation Contexts


def results(node: Node, contexts: wire.Contexts) -> list[wire.Context]:
    """Propose Presentation Contexts, at most 128 an association; return how each was answered."""
    answered: list[wire.Context] = []
    for start in range(0, len(contexts), 128):
        with wire.Peer.associated(node.port, contexts[start : start + 128]) as peer:
            answered += peer.contexts.values()
            peer.release()
    return answered


def test_every_storage_sop_class_is_accepted_in_every_transfer_syntax(node):
    assert len(STORAGE) > 200
    assert len(SYNTAXES) > 50
    contexts = [(sop_class, (syntax,)) for sop_class in STORAGE for syntax in SYNTAXES]

    assert results(node, contexts) == [(0, syntax) for _, (syntax,) in contexts]


def test_any_other_sop_class_and_transfer_syntax_is_accepted_for_storage(node):
    contexts = [(PRIVATE_SOP_CLASS, (ExplicitVRLittleEndian,)), (DX, (PRIVATE_TRANSFER_SYNTAX,))]
    contexts += [("1.2.840.10008.5.1.4.1.1.99999", (PRIVATE_TRANSFER_SYNTAX,))]  # of an edition to come

    assert [answer.result for answer in results(node, contexts)] == [0, 0, 0]


def test_the_first_transfer_syntax_is_chosen_but_those_that_may_lose_only_alone(node):
    pairs = [(first, second) for first, second in itertools.product(SYNTAXES, repeat=2) if first != second]
    kept = {syntax for syntax, chosen in SYNTAXES.items() if chosen == "first proposed"}
    expected = [first if first in kept or second not in kept else second for first, second in pairs]
    assert set(SYNTAXES.values()) == {"first proposed", "only alone"}

    assert [answer.transfer_syntax for answer in results(node, [(DX, pair) for pair in pairs])] == expected


def test_every_other_sop_class_is_accepted_in_its_transfer_syntaxes_and_no_other(node):
    assert len(OTHERS) == 11
    assert COMMITMENT in OTHERS
    taken = [(sop_class, (syntax,)) for sop_class in OTHERS for syntax in NATIVE_SYNTAXES]
    refused = [(c, (syntax,)) for c in OTHERS for syntax in SYNTAXES if syntax not in NATIVE_SYNTAXES]

    assert results(node, taken) == [(0, syntax) for _, (syntax,) in taken]
    assert {answer.result for answer in results(node, refused)} == {4}


def test_what_is_said_to_be_refused_is_refused(node):
    """Also every SOP Class of the standard that no table lists."""
    unlisted = {uid for uid, entry in UID_dictionary.items() if entry[1].endswith("SOP Class")} - {*STORAGE, *OTHERS}
    assert {COMMITMENT_PULL} <= set(REFUSED) <= unlisted
    contexts = [(sop_class, NATIVE) for sop_class in sorted(unlisted)]

    assert {answer.result for answer in results(node, contexts)} == {3}


# --------------------------------------------------------------------------------------------------- other negotiation


@pytest.mark.parametrize("service", ["FIND", "MOVE", "GET"])
def test_extended_negotiation_answers_each_byte(node, service):
    table = statement.table("SOP Class Extended Negotiation (PS3.4 C.5)")
    answers = bytes(int(row["Answer"]) for row in table if row["SOP Classes"] == service)
    ones = b"\1" * len(answers)
    proposals = [ones, bytes(len(answers)), b"\2" * len(answers), ones + b"\1", ones[:1]]
    proposals += [bytes(place == one for place in range(len(answers))) for one in range(len(answers))]
    for sop_class in (model + {"FIND": FIND, "MOVE": MOVE, "GET": GET}[service] for model in MODELS):
        for proposed in proposals:
            expected = bytes(answer & (asked == 1) for asked, answer in zip(proposed, answers, strict=False))
            assert extended(node, sop_class, proposed) == {sop_class: expected}
    assert extended(node, DX, ones) == {}


def extended(node: Node, sop_class: str, proposed: bytes) -> dict[str, bytes]:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = sop_class, proposed
    ae = AE("PYNETDICOM")
    ae.add_requested_context(sop_class)
    opened = ae.associate(node.host, node.port, ae_title=node.ae_title, ext_neg=[item])
    assert opened.is_established
    answered = {str(uid): answer for uid, answer in opened.acceptor.sop_class_extended.items()}
    opened.release()
    return answered


ROLE = 0x54


@pytest.mark.parametrize("row", statement.table("SCP/SCU Role Selection (PS3.7 D.3.3.4)"), ids=str)
def test_roles(node, row):
    scu, scp = (int(proposed.split()[1]) for proposed in row["Proposed of the requestor"].split(", "))
    both = [DX, CT, PRIVATE_SOP_CLASS, COMMITMENT]
    scu_only = [sop_class for sop_class in OTHERS if sop_class != COMMITMENT]
    for sop_class in both if row["SOP Classes"].startswith("Storage") else scu_only:
        item = wire.role(sop_class, scu=scu, scp=scp)
        with wire.Peer.associated(node.port, ((sop_class, NATIVE),), items=item) as peer:
            answered = [content[-2:] for kind, content in peer.user_items() if kind == ROLE]
            peer.release()
        assert row["Answer"] == (f"SCU {answered[0][0]}, SCP {answered[0][1]}" if answered else "none")


PARAMETERS = {row["Name"]: row["Value"] for row in statement.table("Association parameters")}


def test_association_parameters_as_acceptor(node):
    with association(node, VERIFICATION) as opened:
        assert told(opened.acceptor) == (*OURS, PARAMETERS["Maximum PDU length offered as acceptor, bytes"])


OURS = (PARAMETERS["Implementation Class UID"], PARAMETERS["Implementation Version Name"])


def told(side: ServiceUser) -> tuple[str, str, str]:
    return str(side.implementation_class_uid), str(side.implementation_version_name), str(side.maximum_length)


def test_association_parameters_and_contexts_as_requestor(node, listener):
    """Of each Transfer Syntax that is stored one context, and of the two that it may be transcoded to."""
    (stored, *native) = (
        row for row in statement.table("Presentation Contexts proposed") if row["Service"] == "Storage"
    )
    assert stored["Transfer Syntaxes of one Presentation Context"] == "each one that an instance is stored in, alone"
    assert len(native) == 2
    packed = dataclasses.replace(encode(dx(study="packed")), transfer_syntax_uid=PRIVATE_TRANSFER_SYNTAX)
    node.send([packed, encode(dx(study="packed", number=2))])

    move(node, "SINK", "STUDY", {"StudyInstanceUID": uid("packed")})

    (requestor,) = listener.requestors
    assert told(requestor) == (*OURS, PARAMETERS["Maximum PDU length offered as requestor, bytes"])
    proposed = [(str(c.abstract_syntax), list(map(str, c.transfer_syntax))) for c in requestor.requested_contexts]
    assert sorted(proposed) == sorted((DX, [syntax]) for syntax in (PRIVATE_TRANSFER_SYNTAX, *NATIVE))
    assert {UID(syntax).name for syntax in NATIVE} == {
        row["Transfer Syntaxes of one Presentation Context"].removesuffix(", alone") for row in native
    }


def test_associations_are_rejected_as_it_says(start_node):
    node = start_node(settings={"node": {"maximum_associations": 1, "reserved_associations": 0}})
    opened = wait_until(lambda: the_only_place(node))
    assert opened
    with opened:
        reasons = {
            "calling AE title is blank or has control characters": rejection(node, calling="BELL\a"),
            "called AE title is another one": rejection(At(node.host, node.port, "OTHER")),
            "too many Associations": rejection(node),
            "bit 0 of the protocol version is not set": rejection_of_version(node, 2),
        }
        assert rejection(node, calling="") == reasons["calling AE title is blank or has control characters"]
    table = statement.table("Associations that are rejected (PS3.8 9.3.4)")
    claimed = {row["Condition"]: tuple(int(row[name]) for name in ("Result", "Source", "Reason")) for row in table}
    assert claimed.pop("the node stops")
    without_tls = 'called without TLS by a remote AE with `tls = "required"` or with `certificate`'
    assert claimed.pop(without_tls) == (1, 1, 1)  # see test_tls
    assert claimed.pop('called by none of the remote AEs, with `strangers = "refuse"`') == (
        1,
        1,
        3,
    )  # test_access_matrix
    asked = "a user who is not as `user_identity` of its remote AE asks (PS3.7 D.3.3.7.3)"
    assert claimed.pop(asked) == (1, 2, 1)  # see test_user_identity_peers
    assert claimed.pop("too many Associations of an address that is not configured")
    assert claimed == reasons


def the_only_place(node: Node) -> raw_sender.Association | None:
    """Associate, unless the C-ECHO that saw the node start still has the place."""
    with contextlib.suppress(raw_sender.AssociationRefusedError):
        return raw_sender.Association(node)
    return None


def rejection(called: raw_sender.Acceptor, calling: str = "RAW_SENDER") -> tuple[int, ...]:
    with pytest.raises(raw_sender.AssociationRefusedError) as refused:
        raw_sender.Association(called, calling=calling)
    assert refused.value.args[0] == wire.ASSOCIATE_RJ
    return refused.value.args[1:]


def rejection_of_version(node: Node, version: int) -> tuple[int, ...]:
    with wire.Peer(node.port) as peer:
        kind, body = peer.ask(wire.associate_rq([(VERIFICATION, (wire.IMPLICIT,))], version=version))
    assert kind == wire.ASSOCIATE_RJ
    return tuple(body[1:])
