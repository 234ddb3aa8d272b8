"""The tables of docs/conformance-statement.md on Status codes, provoked from a running node, row by row.

Not provoked here but in ``tests/dimse``: 0110, an error in the node itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from tests import statement
from tests.dimse import wire
from tests.processes import free_port
from tests.samples import Sample, ct_series, dx, encode, uid
from tests.system import commitments, raw_sender
from tests.system.network_namespace import OtherMachine
from tests.system.node import Node, Remote
from tests.system.pynetdicom_peers import (
    FIND,
    GET,
    MOVE,
    NATIVE,
    STUDY_ROOT,
    Sink,
    association,
    counts,
    find,
    get,
    identifier,
    move,
)
from tests.system.test_access import At

CT, DX = str(CTImageStorage), str(DigitalXRayImageStorageForPresentation)
VERIFICATION = "1.2.840.10008.1.1"
STUDY = {"StudyInstanceUID": uid("1")}
IMAGES = [encode(dx()), *map(encode, ct_series(3))]


class Destination(Sink):
    """A Move Destination that answers when its gate is open."""

    def __init__(self, *sop_classes: str, ae_title: str) -> None:
        super().__init__(
            dict.fromkeys(sop_classes, NATIVE), lambda _: 0 if self.gate.wait(60) else 0xC000, ae_title=ae_title
        )
        self.gate = threading.Event()
        self.gate.set()


@pytest.fixture(scope="module")
def sink():
    """Return a Move Destination that takes every instance of the node."""
    with Destination(CT, DX, ae_title="SINK") as sink:
        yield sink


@pytest.fixture(scope="module")
def node(tmp_path_factory, sink):
    """Return a running node that holds `IMAGES`, one study."""
    with Destination(DX, ae_title="PICKY") as picky:
        remotes = [sink.remote, picky.remote, Remote("down", "DOWN", free_port())]
        folder = tmp_path_factory.mktemp("statement")
        node = Node(folder / "node", remotes=remotes, settings={"node": {"host": "0.0.0.0"}})
        node.start()
        assert {answer.status for answer in node.send(IMAGES)} == {0}
        yield node
        node.close()


@contextlib.contextmanager
def running_without(tables: Iterable[str], folder: Path, *images: Sample) -> Iterator[Node]:
    """Yield a node whose index has lost tables while it ran."""
    node = Node(folder / "node")
    node.start()
    if images:
        assert {answer.status for answer in node.send(images)} == {0}
    with contextlib.closing(sqlite3.connect(node.home / "index.sqlite", isolation_level=None)) as index:
        for table in tables:
            index.execute(f"ALTER TABLE {table} RENAME TO lost_{table}")
    yield node
    node.close()


@pytest.fixture(scope="module")
def without_index(tmp_path_factory):
    with running_without(["study"], tmp_path_factory.mktemp("without"), *IMAGES) as node:
        yield node


@pytest.fixture(scope="module")
def without_commitments(tmp_path_factory):
    with running_without(["commitment", "commitment_asked"], tmp_path_factory.mktemp("commitments")) as node:
        yield node


@pytest.fixture
def elsewhere(node):
    """Return the node as another machine reaches it, and the place to call from."""
    machine = OtherMachine()
    machine.connect()
    with machine.there():
        yield At(machine.our_address, node.port)
    machine.disconnect()


# -------------------------------------------------------------------------------------------------------- Status codes

Answers = list[tuple[int, str]]  # Status and Error Comment, as they came
Provoke = Callable[[pytest.FixtureRequest, Node], Answers]


def stored(node: Node, *samples: Sample) -> Answers:
    return [(answer.status, answer.error_comment) for answer in node.send(samples)]


def found(called: raw_sender.Acceptor, level: str = "STUDY", **keys: str) -> Answers:
    answer = find(called, level, keys)
    return [*((status, "") for status in answer.pending), (answer.status, answer.error_comment)]


def moved(called: raw_sender.Acceptor, to: str, level: str = "STUDY", **keys: str) -> Answers:
    return [(answer.status, answer.error_comment) for answer in move(called, to, level, keys or STUDY)]


def got(called: raw_sender.Acceptor, *sop_classes: str, level: str = "STUDY", **keys: str) -> Answers:
    answers, _ = get(called, level, keys or STUDY, dict.fromkeys(sop_classes, NATIVE))
    return [(answer.status, answer.error_comment) for answer in answers]


def find_cancelled(_: pytest.FixtureRequest, node: Node) -> Answers:
    with raw_sender.Association(node, [(STUDY_ROOT + FIND, [wire.IMPLICIT])]) as opened:
        encoded = wire.encoded(identifier("IMAGE", {"SOPInstanceUID": ""}), wire.IMPLICIT)
        return [
            (answer.status, answer.error_comment) for answer in opened.find(STUDY_ROOT + FIND, encoded, cancel=True)
        ]


def move_cancelled(request: pytest.FixtureRequest, node: Node) -> Answers:
    """The destination answers nothing before the C-CANCEL is out."""
    sink = request.getfixturevalue("sink")
    sink.gate.clear()
    with association(node, STUDY_ROOT + MOVE) as opened:
        answers = opened.send_c_move(identifier("STUDY", STUDY), "SINK", STUDY_ROOT + MOVE)
        opened.send_c_cancel(1, query_model=STUDY_ROOT + MOVE)
        sink.gate.set()
        return [(answer.status, answer.error_comment) for answer in itertools.starmap(counts, answers)]


def get_cancelled(_: pytest.FixtureRequest, node: Node) -> Answers:
    """The C-CANCEL is out before the first C-STORE is answered."""
    storage = {CT: NATIVE, DX: NATIVE}
    with association(node, STUDY_ROOT + GET, storage=storage, on_store=lambda _: 0) as opened:
        answers = opened.send_c_get(identifier("STUDY", STUDY), STUDY_ROOT + GET)
        opened.send_c_cancel(1, query_model=STUDY_ROOT + GET)
        return [(answer.status, answer.error_comment) for answer in itertools.starmap(counts, answers)]


def acted(
    node: Node,
    *,
    transaction: str = "",
    references: tuple[tuple[str, str], ...] = ((DX, "1.2.3"),),
    sop_class: str = commitments.STORAGE_COMMITMENT,
    instance: str = commitments.WELL_KNOWN_INSTANCE,
    action_type: int = 1,
) -> Answers:
    """Send one N-ACTION, with a Transaction UID of its own unless it is given."""
    with commitments.associated(node, "PYNETDICOM") as opened:
        request = commitments.action_information(transaction or commitments.new_uid(), references)
        answer, _ = opened.send_n_action(
            request, action_type, sop_class, instance, meta_uid=commitments.STORAGE_COMMITMENT
        )
    return [(answer.Status, str(answer.get("ErrorComment", "")))]


def told(node: Node, *, known: bool = False) -> Answers:
    """Send a report on a request that the node knows of, or not."""
    transaction = commitments.new_uid()
    if known:
        with contextlib.closing(sqlite3.connect(node.home / "index.sqlite", isolation_level=None)) as index:
            row = (transaction, "2026-01-01T00:00:00.000000Z", "")
            index.execute("INSERT INTO commitment_asked (transaction_uid, asked_at, results) VALUES (?, ?, ?)", row)
    with commitments.associated(node, "PYNETDICOM", as_scp=True) as opened:
        information = commitments.action_information(transaction, [(DX, "1.2.3")])
        answer, _ = opened.send_n_event_report(
            information, 1, commitments.STORAGE_COMMITMENT, commitments.WELL_KNOWN_INSTANCE
        )
    return [(answer.Status, str(answer.get("ErrorComment", "")))]


def requested(field: int) -> Provoke:
    """Send a request in the Presentation Context of Verification."""

    def provoke(_: pytest.FixtureRequest, node: Node) -> Answers:
        elements: wire.Elements = {0x0002: VERIFICATION, 0x0100: field, 0x0110: 1, 0x0800: wire.NO_DATA_SET}
        with wire.Peer.associated(node.port) as peer:
            peer.send(wire.p_data(wire.pdv(1, wire.COMMAND | wire.LAST, wire.command(elements))))
            message = peer.message()
            assert peer.echo() == 0
            peer.release()
        return [(message.status, message.comment)]

    return provoke


N_SET_RQ, N_ACTION_RQ = 0x0120, 0x0130
ANOTHER = dataclasses.replace(IMAGES[0], sop_instance_uid="1.2.3")
PROVOKE: dict[tuple[str, str], Provoke] = {
    ("every service", "0122"): requested(wire.C_FIND_RQ),
    ("every service", "0211"): requested(N_SET_RQ),
    ("C-ECHO", "0000"): requested(wire.C_ECHO_RQ),
    ("C-STORE", "0000"): lambda _, node: stored(node, IMAGES[0], encode(dx(study="new"))),
    ("C-STORE", "A700"): lambda request, _: stored(request.getfixturevalue("without_index"), encode(dx(study="2"))),
    ("C-STORE", "A900"): lambda _, node: stored(node, ANOTHER),
    ("C-FIND", "0000"): lambda _, node: found(node, PatientID="NOBODY"),
    ("C-FIND", "FF00"): lambda _, node: found(node, PatientID=""),
    ("C-FIND", "FF01"): lambda _, node: found(node, PatientID="", SliceThickness=""),
    ("C-FIND", "FE00"): find_cancelled,
    ("C-FIND", "A700"): lambda request, _: found(request.getfixturevalue("without_index"), PatientID=""),
    ("C-FIND", "A900"): lambda _, node: found(node, level="PATIENT", PatientID=""),
    ("C-FIND", "0124"): lambda request, _: found(request.getfixturevalue("elsewhere"), PatientID=""),
    ("C-MOVE", "0000"): lambda _, node: moved(node, "SINK"),
    ("C-MOVE", "FF00"): lambda _, node: moved(node, "SINK"),
    ("C-MOVE", "FE00"): move_cancelled,
    ("C-MOVE", "B000"): lambda _, node: moved(node, "PICKY"),
    ("C-MOVE", "A701"): lambda request, _: moved(request.getfixturevalue("without_index"), "SINK"),
    ("C-MOVE", "A702"): lambda _, node: moved(node, "DOWN"),
    ("C-MOVE", "A801"): lambda _, node: moved(node, "NOWHERE"),
    ("C-MOVE", "A900"): lambda _, node: moved(node, "SINK", PatientID="PID1"),
    ("C-MOVE", "0124"): lambda request, _: moved(request.getfixturevalue("elsewhere"), "SINK"),
    ("C-GET", "0000"): lambda _, node: got(node, CT, DX),
    ("C-GET", "FF00"): lambda _, node: got(node, CT, DX),
    ("C-GET", "FE00"): get_cancelled,
    ("C-GET", "B000"): lambda _, node: got(node, DX),
    ("C-GET", "A701"): lambda request, _: got(request.getfixturevalue("without_index"), CT, DX),
    ("C-GET", "A702"): lambda _, node: got(node, "1.2.840.10008.5.1.4.1.1.4"),
    ("C-GET", "A900"): lambda _, node: got(node, CT, DX, PatientID="PID1"),
    ("C-GET", "0124"): lambda request, _: got(request.getfixturevalue("elsewhere"), CT, DX),
    ("N-ACTION", "0000"): lambda _, node: acted(node),
    ("N-ACTION", "0112"): lambda _, node: acted(node, instance="1.2.3"),
    ("N-ACTION", "0115"): lambda _, node: acted(node, references=()),
    ("N-ACTION", "0118"): lambda _, node: acted(node, sop_class="1.2.3"),
    ("N-ACTION", "0123"): lambda _, node: acted(node, action_type=2),
    ("N-ACTION", "0131"): lambda _, node: [acted(node, transaction=uid("twice"))[0] for _ in range(2)],
    ("N-EVENT-REPORT", "0000"): lambda _, node: told(node, known=True),
    ("N-EVENT-REPORT", "0115"): lambda _, node: told(node),
    ("N-EVENT-REPORT", "0213"): lambda request, _: told(request.getfixturevalue("without_commitments")),
    ("N-ACTION", "0213"): lambda request, _: acted(request.getfixturevalue("without_commitments")),
}
SERVICES = (
    *("every service", "C-ECHO", "C-STORE, answered as SCP", "C-FIND", "C-MOVE", "C-GET", "N-ACTION"),
    "N-EVENT-REPORT, answered as SCU",
)
CLAIMED = {
    (service.partition(",")[0], row["Status Code"]): row["Error Comment"] != "-"
    for service in SERVICES
    for row in statement.table(f"Status codes of {service}")
}
ERROR_IN_THE_NODE = ("every service", "0110")


def test_every_status_is_provoked():
    assert CLAIMED.keys() - PROVOKE.keys() == {ERROR_IN_THE_NODE}
    assert PROVOKE.keys() <= CLAIMED.keys()


@pytest.mark.parametrize(("service", "status"), PROVOKE)
def test_status_codes(request, node, service, status):
    comments = [comment for code, comment in PROVOKE[service, status](request, node) if code == int(status, 16)]

    assert comments
    assert {bool(comment) for comment in comments} == {CLAIMED[service, status]}


@pytest.mark.parametrize(
    ("answer", "completed", "warning", "failed"),
    [(0x0000, 1, 0, 0), *((status, 0, 1, 0) for status in (0xB000, 0xB006, 0x0001, 0x0107, 0x0116)), (0xA700, 0, 0, 1)],
)
def test_status_codes_received_as_scu(node, answer, completed, warning, failed):
    storage = {DX: NATIVE}
    with association(node, STUDY_ROOT + GET, storage=storage, on_store=lambda _: answer) as opened:
        keys = {**STUDY, "SOPInstanceUID": IMAGES[0].sop_instance_uid}
        final = [counts(*each) for each in opened.send_c_get(identifier("IMAGE", keys), STUDY_ROOT + GET)][-1]

    assert (final.completed, final.warning, final.failed) == (completed, warning, failed)
