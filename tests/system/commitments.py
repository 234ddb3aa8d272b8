"""pynetdicom as Storage Commitment SCU: sends requests, and receives reports (PS3.4 J.3)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from backup_scp.ports import Reference
from tests.processes import LOOPBACK, free_port
from tests.samples import Sample
from tests.system.node import Remote
from tests.system.raw_sender import Acceptor

STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)

Pair = tuple[str, str]  # SOP Class UID, SOP Instance UID


@dataclass(frozen=True)
class Report:
    """One N-EVENT-REPORT-RQ."""

    event_type: int
    transaction_uid: str
    retrieve_ae_title: str
    committed: tuple[Pair, ...]
    failed: dict[Pair, int]
    transfer_syntax: str
    called_ae_title: str
    association: Any = field(repr=False)

    @classmethod
    def of(cls, event: evt.Event) -> Self:
        information = event.event_information
        failed = information.get("FailedSOPSequence", [])
        return cls(
            event.event_type or 0,
            str(information.TransactionUID),
            str(information.get("RetrieveAETitle", "")),
            tuple(map(_pair, information.get("ReferencedSOPSequence", []))),
            {_pair(item): item.FailureReason for item in failed},
            str(event.context.transfer_syntax),
            str(event.assoc.acceptor.ae_title).strip(),
            event.assoc,
        )


def _pair(item: Dataset) -> Pair:
    return str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)


def new_uid() -> str:
    return str(generate_uid())


def pair(sample: Sample) -> Pair:
    return sample.sop_class_uid, sample.sop_instance_uid


def action_information(transaction_uid: str, references: Iterable[Pair | Reference]) -> Dataset:
    """Make the Data Set of an N-ACTION-RQ."""
    made = Dataset()
    made.TransactionUID = transaction_uid
    made.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference[:2]
        made.ReferencedSOPSequence.append(item)
    return made


@contextlib.contextmanager
def associated(
    called: Acceptor,
    calling: str,
    *,
    syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
    on_report: Any = None,
    as_scp: bool = False,
) -> Iterator[Association]:
    """Open an association for Storage Commitment; ``as_scp`` to send reports on it."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(STORAGE_COMMITMENT, list(syntaxes))
    roles: Any = [build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)] if as_scp else []
    handlers: Any = [(evt.EVT_N_EVENT_REPORT, on_report)] if on_report else []
    opened = ae.associate(called.host, called.port, ae_title=called.ae_title, evt_handlers=handlers, ext_neg=roles)
    assert opened.is_established, "the association was not accepted"
    try:
        yield opened
    finally:
        opened.release()


def ask(opened: Association, references: Iterable[Pair], transaction_uid: str = "") -> tuple[int, str]:
    """Send N-ACTION; return its Status and the Transaction UID."""
    transaction_uid = transaction_uid or new_uid()
    information = action_information(transaction_uid, references)
    answer, _ = opened.send_n_action(information, 1, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
    return answer.Status, transaction_uid


class Console:
    """A Storage Commitment SCU that listens for its reports on a port of its own; a context manager.

    It may be opened and closed again and again; ``answer`` says with which Status it takes a report.
    """

    def __init__(
        self,
        ae_title: str = "CONSOLE",
        *,
        syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
        answer: Callable[[Report], int] = lambda _: 0,
        takes_scp: bool = True,
    ) -> None:
        self.ae_title, self.port = ae_title, free_port()
        self.reports: list[Report] = []
        self._answer = answer
        self._lock = threading.Lock()
        self._ae = AE(ae_title)
        self._ae.add_supported_context(
            STORAGE_COMMITMENT, list(syntaxes), **({"scu_role": False, "scp_role": True} if takes_scp else {})
        )

    @property
    def remote(self) -> Remote:
        return Remote(self.ae_title.lower(), self.ae_title, self.port)

    def open(self) -> None:
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self.take)]
        self._ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)

    def close(self) -> None:
        self._ae.shutdown()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, event: evt.Event) -> tuple[int, None]:
        report = Report.of(event)
        status = self._answer(report)
        with self._lock:
            self.reports.append(report)
        return status, None

    def ask(self, node: Acceptor, references: Iterable[Pair], transaction_uid: str = "") -> tuple[int, str]:
        """Send N-ACTION, and release at once."""
        with associated(node, self.ae_title) as opened:
            return ask(opened, references, transaction_uid)

    def of(self, transaction_uid: str) -> list[Report]:
        """Return the reports on one request."""
        with self._lock:
            return [report for report in self.reports if report.transaction_uid == transaction_uid]
