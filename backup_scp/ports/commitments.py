"""Storage Commitment: the requests, what they came to, and what keeps them (PS3.4 J)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, Protocol

from backup_scp.ports.holdings import StoredVersion


class FailureReason(IntEnum):
    """Why a SOP Instance is not committed; Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122


class Reference(NamedTuple):
    """One item of a Referenced SOP Sequence (0008,1199)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Requester:
    """The requester of a commitment, which gets the report.

    Attributes
    ----------
    site
        The clinic configured for it; empty without one.
    ae_title, address
        Its AE title, and the network address of its call.
    """

    site: str
    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One Storage Commitment request (PS3.4 J.3.2.1).

    Attributes
    ----------
    called_ae_title
        Who we are to the requester, and so in the report; empty in requests of before it was kept.
    own_only
        Whether only what the requester has sent itself is committed: it is a stranger, who may not ask for the rest.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    requester: Requester
    requested_at: datetime
    called_ae_title: str = ""
    own_only: bool = False


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request that was leased, to be worked on.

    Attributes
    ----------
    results
        Of each reference, in order: None if it is committed.  Empty while they have not been looked at.
    attempts
        How often a report has failed.
    lease
        Whose it is: nobody else works on it meanwhile.
    """

    number: int
    request: CommitmentRequest
    results: tuple[FailureReason | None, ...]
    attempts: int
    lease: str


@dataclass(frozen=True, slots=True)
class OwedReports:
    """Pending Storage Commitment reports of one requester, for ``status``.

    Attributes
    ----------
    requester
        Who it is.
    waiting
        Number of requests whose images have not been checked yet.
    owed
        Number of reports that the requester has not accepted yet.
    given_up
        Number of reports that are no longer sent.
    since
        When the oldest of these requests arrived.
    error
        Why the last report was not delivered, and what to do.
    tried_at, next_at
        Time of the last attempt to send a report, and of the next one.
    """

    requester: Requester
    waiting: int
    owed: int
    given_up: int
    since: datetime
    error: str
    tried_at: datetime | None
    next_at: datetime | None


class Commitments(Protocol):
    """The Storage Commitment requests of every node that shares the index; each method is one transaction.

    A request is entered, leased and concluded, its report leased and delivered.  A lease that is not renewed in time is
    over, and anyone may take the next one.

    Every method raises IndexUnavailable.
    """

    def enter(self, request: CommitmentRequest) -> int:
        """Keep a request; on return it is durable, and its number known.

        Raises
        ------
        DuplicateTransaction
            The requester has used the Transaction UID before.
        ResourceLimitation
            It has too much open.
        """

    def find(
        self, references: Sequence[Reference], requester: Requester, *, own_only: bool = False
    ) -> dict[Reference, list[StoredVersion]]:
        """Find what each reference names: the answering versions, and the latest that the requester has sent.

        With ``own_only`` nothing of an instance of which the requester has sent no version.
        """

    def lease_request(self, now: datetime, until: datetime, not_at: Collection[str] = ()) -> Commitment | None:
        """Take a request whose instances are due to be looked at, of a requester at none of these addresses."""

    def lease_report(self, now: datetime, until: datetime) -> Commitment | None:
        """Take a report that is due, of a requester to whom no other is under way."""

    def lease_report_of(
        self, numbers: Sequence[int], attempts: int, now: datetime, until: datetime
    ) -> Commitment | None:
        """Take one of these reports that has failed so often, due or not, if it is owed and nobody has it."""

    def renew(self, commitment: Commitment, until: datetime) -> bool:
        """Keep a lease for longer; False when it is lost."""

    def postpone(self, commitment: Commitment, due_at: datetime) -> None:
        """Give a request back, to be looked at again."""

    def conclude(self, commitment: Commitment, results: Sequence[FailureReason | None], now: datetime) -> bool:
        """Note what became of each reference; the report is owed from now on.  False when the lease was lost."""

    def report_failed(
        self, commitment: Commitment, error: str, now: datetime, again_at: datetime, give_up_before: datetime
    ) -> None:
        """Note that a report was not taken: none to this requester is tried before, and no older request's at all."""

    def report_delivered(self, commitment: Commitment, now: datetime) -> None:
        """Note that a report was taken: the Transaction UID is dead; what else is owed to the requester is due."""

    def owed(self) -> list[OwedReports]:
        """List who waits for what, the oldest first."""

    def ask(self, transaction_uid: str, now: datetime) -> None:
        """Note that we ask another AE for a commitment; older notes are forgotten after some time."""

    def answer(self, transaction_uid: str, results: Mapping[Reference, int]) -> bool:
        """Note what it reports, 0 for committed, else its Failure Reason; False when we have not asked that."""

    def answer_to(self, transaction_uid: str) -> dict[Reference, int] | None:
        """Give what it reported, once it has."""
