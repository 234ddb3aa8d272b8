"""pynetdicom as a peer: returns every response of a query or retrieve, and acts as Move Destinations with faults."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydicom.config import IGNORE, settings
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from tests.processes import LOOPBACK, free_port
from tests.samples import replace
from tests.system.node import Remote
from tests.system.raw_sender import Acceptor

_ROOT = "1.2.840.10008.5.1.4.1.2"
PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY = f"{_ROOT}.1", f"{_ROOT}.2", f"{_ROOT}.3"
FIND, MOVE, GET = ".1", ".2", ".3"
NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True)
class Found:
    """All answers to one C-FIND: the pending Statuses, the matches, and the final Status with its Error Comment."""

    pending: tuple[int, ...]
    matches: tuple[Dataset, ...]
    status: int
    error_comment: str

    def values(self, keyword: str) -> list[str]:
        """Return one attribute of every match, sorted."""
        return sorted(str(match.get(keyword, "")) for match in self.matches)


@dataclass(frozen=True)
class Counts:
    """One C-MOVE-RSP or C-GET-RSP; None where the count is not in it."""

    status: int
    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None
    failed_list: tuple[str, ...]
    error_comment: str = ""

    @property
    def total(self) -> int:
        """Sum up all sub-operations."""
        return sum(count or 0 for count in (self.remaining, self.completed, self.failed, self.warning))


def identifier(level: str, keys: Mapping[str, Any]) -> Dataset:
    """Make an Identifier; `level` empty leaves out (0008,0052)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pattern is no valid value
        made = replace(Dataset(), **keys)
        if level:
            made.QueryRetrieveLevel = level
    return made


@contextlib.contextmanager
def association(
    called: Acceptor,
    sop_class: str,
    *,
    calling: str = "PYNETDICOM",
    syntaxes: Sequence[str] = NATIVE,
    storage: Mapping[str, Sequence[str]] | None = None,
    on_store: Callable[[evt.Event], int] | None = None,
    as_scp: bool = True,
    negotiated: bytes = b"",
) -> Iterator[Association]:
    """Open an association for one SOP Class, and as Storage SCP (C-GET) for those in `storage`.

    `as_scp` selects that role, `negotiated` are the bytes of SOP Class Extended Negotiation (PS3.4 C.5).
    """
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(sop_class, list(syntaxes))
    for storage_class, storage_syntaxes in (storage or {}).items():
        ae.add_requested_context(storage_class, list(storage_syntaxes))
    items: list[Any] = [build_role(storage_class, scp_role=True) for storage_class in storage or () if as_scp]
    if negotiated:
        items.append(_extended(sop_class, negotiated))
    opened = ae.associate(
        called.host,
        called.port,
        ae_title=called.ae_title,
        ext_neg=items,
        evt_handlers=[(evt.EVT_C_STORE, on_store)] if on_store else [],
    )
    assert opened.is_established, "the association was not accepted"
    try:
        yield opened
    finally:
        opened.release()


def _extended(sop_class: str, proposed: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = UID(sop_class)
    item.service_class_application_information = proposed
    return item


def find(
    called: Acceptor,
    level: str,
    keys: Mapping[str, Any],
    *,
    model: str = STUDY_ROOT,
    calling: str = "PYNETDICOM",
    syntaxes: Sequence[str] = NATIVE,
    negotiated: bytes = b"",
) -> Found:
    """C-FIND; keys by keyword."""
    opening = association(called, model + FIND, calling=calling, syntaxes=syntaxes, negotiated=negotiated)
    with opening as opened, _odd_values_welcome():
        answers = list(opened.send_c_find(identifier(level, keys), model + FIND))
        matches = [match for _, match in answers[:-1] if match is not None and list(match)]  # all values are read
    final = answers[-1][0]
    assert len(matches) == len(answers) - 1, "a match could not be decoded"
    return Found(
        tuple(status.Status for status, _ in answers[:-1]),
        tuple(matches),
        final.Status,
        str(final.get("ErrorComment", "")),
    )


@contextlib.contextmanager
def _odd_values_welcome() -> Iterator[None]:
    """Let pydicom read answers of any kind: odd identities are answered as they are held."""
    before, settings.reading_validation_mode = settings.reading_validation_mode, IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode = before


def counts(status: Dataset, failed: Dataset | None) -> Counts:
    """Read one answer of a retrieve."""
    uids = failed.get("FailedSOPInstanceUIDList") if failed else None
    listed = () if not uids else (str(uids),) if isinstance(uids, str) else tuple(map(str, uids))
    numbers: dict[str, Any] = {
        name: status.get(f"NumberOf{name.title()}Suboperations")
        for name in ("remaining", "completed", "failed", "warning")
    }
    return Counts(status.Status, failed_list=listed, error_comment=str(status.get("ErrorComment", "")), **numbers)


def move(
    called: Acceptor,
    destination: str,
    level: str,
    keys: Mapping[str, Any],
    *,
    model: str = STUDY_ROOT,
    calling: str = "PYNETDICOM",
    message_id: int = 1,
    priority: int = 2,
    negotiated: bytes = b"",
) -> list[Counts]:
    """C-MOVE; return every answer, the final one last."""
    with association(called, model + MOVE, calling=calling, negotiated=negotiated) as opened:
        answers = opened.send_c_move(
            identifier(level, keys), destination, model + MOVE, msg_id=message_id, priority=priority
        )
        return [counts(*answer) for answer in answers]


def get(
    called: Acceptor,
    level: str,
    keys: Mapping[str, Any],
    storage: Mapping[str, Sequence[str]],
    *,
    model: str = STUDY_ROOT,
    calling: str = "PYNETDICOM",
    as_scp: bool = True,
    cancel_after: int = 0,
    answer: Callable[[Stored], int] = lambda _: 0,
    negotiated: bytes = b"",
) -> tuple[list[Counts], list[Stored]]:
    """C-GET, as Storage SCP of what `storage` names; return every answer, and what came.

    `cancel_after` so many instances it sends C-CANCEL, before it answers the last of them.
    """
    stored: list[Stored] = []

    def on_store(event: evt.Event) -> int:
        stored.append(Stored.of(event))
        if len(stored) == cancel_after:
            event.assoc.send_c_cancel(1, query_model=model + GET)
        return answer(stored[-1])

    opening = association(
        called, model + GET, calling=calling, storage=storage, on_store=on_store, as_scp=as_scp, negotiated=negotiated
    )
    with opening as opened:
        answers = [counts(*answer) for answer in opened.send_c_get(identifier(level, keys), model + GET)]
    return answers, stored


@dataclass(frozen=True)
class Stored:
    """One C-STORE-RQ as a Storage SCP received it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes = field(repr=False)
    move_originator: str
    move_message_id: int | None
    calling_ae_title: str
    message_id: int
    priority: int
    association: object = field(repr=False)

    @classmethod
    def of(cls, event: evt.Event) -> Self:
        request: Any = event.request
        return cls(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            event.encoded_dataset(include_meta=False),
            str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
            request.MoveOriginatorMessageID,
            str(event.assoc.requestor.ae_title).strip(),
            request.MessageID,
            request.Priority,
            event.assoc,
        )


class Sink:
    """A Storage SCP in this process; a context manager.

    It accepts `accepts` (SOP Class to Transfer Syntaxes), and answers each C-STORE with what `answer` says of it.
    """

    def __init__(
        self,
        accepts: Mapping[str, Iterable[str]],
        answer: Callable[[Stored], int] = lambda _: 0,
        *,
        ae_title: str = "SINK",
        host: str = LOOPBACK,
        maximum_associations: int = 10,
    ) -> None:
        self.host, self.port, self.ae_title = host, free_port(), ae_title
        self.stored: list[Stored] = []
        self._answer = answer
        self._errors: list[Exception] = []
        self._ae = AE(ae_title=ae_title)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = maximum_associations
        for sop_class, syntaxes in accepts.items():
            self._ae.add_supported_context(sop_class, list(syntaxes))

    @property
    def remote(self) -> Remote:
        return Remote(self.ae_title.lower(), self.ae_title, self.port, self.host)

    def __enter__(self) -> Self:
        handlers: Any = [(evt.EVT_C_STORE, self._store)]
        self._server: Any = self._ae.start_server((self.host, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._ae.shutdown()
        if self._errors:
            raise self._errors[0]

    def break_off(self, *, for_good: bool = False) -> int:
        """Abort the association in place of an answer; `for_good` takes no further one."""
        if for_good:
            self._server.shutdown()
            self._server.server_close()
        for opened in self._ae.active_associations:
            opened.abort()
        return 0xC000

    def _store(self, event: evt.Event) -> int:
        stored = Stored.of(event)
        try:
            status = self._answer(stored)
        except Exception as error:  # pynetdicom would only log it
            self._errors.append(error)
            raise
        self.stored.append(stored)
        return status
