"""The values of Storage Commitment (PS3.4 J), and the interface of their store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, Protocol

from backup_scp.ports.sites import SiteScope
from backup_scp.ports.versions import StoredVersion


class FailureReason(IntEnum):
    """Why a SOP Instance is not committed; Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122


class Reference(NamedTuple):
    """One instance of a request.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        Of an item of a Referenced SOP Sequence (0008,1199).
    study_instance_uid, series_instance_uid
        Where it must be, if the request lists it by study (0008,1110); else empty.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Requester:
    """The AE that requested a commitment and gets the report.

    Attributes
    ----------
    site
        The clinic configured for it; empty without one.
    ae_title, address
        Its AE title, and the network address of its call.  A web client has no AE title: it asks for the result itself,
        and gets no report.
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
        Our AE title in the request, used in the report again; empty in requests of releases that did not store it.
    own_only
        Whether to commit only instances that the requester sent itself; true for an AE that is not configured.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    requester: Requester
    requested_at: datetime
    called_ae_title: str = ""
    own_only: bool = False


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request that this worker has leased.

    Attributes
    ----------
    results
        For each reference, in order: None when it is committed.  Empty before the instances were verified.
    attempts
        How often a report has failed.
    lease
        Identifies the lease; no other worker takes the request meanwhile.
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
    """Stores the Storage Commitment requests of all nodes that share the index; each method is one transaction.

    A request is entered, leased and concluded; then its report is leased and delivered.  A lease that is not renewed
    in time expires, and any worker may take the next one.

    Every method raises IndexUnavailable.
    """

    def enter(self, request: CommitmentRequest) -> int:
        """Store a request; on return it is durable.  Returns its number.

        Raises
        ------
        DuplicateTransaction
            The requester has used the Transaction UID before.
        ResourceLimitation
            The requester has too many open requests.
        """

    def find(
        self, references: Sequence[Reference], requester: Requester, *, own_only: bool = False
    ) -> dict[Reference, list[StoredVersion]]:
        """Find the versions of each reference: the answering ones, and the latest that the requester sent.

        With ``own_only``, find nothing for an instance of which the requester sent no version.
        """

    def find_request(self, transaction_uid: str, scope: SiteScope) -> Commitment | None:
        """Return the request of a web client who sees these sites, without a lease.

        It has no results while they are not known.
        """

    def lease_request(self, now: datetime, until: datetime, not_at: Collection[str] = ()) -> Commitment | None:
        """Lease a request whose instances are due for verification, from an address not in ``not_at``."""

    def lease_report(self, now: datetime, until: datetime) -> Commitment | None:
        """Lease a report that is due, for a requester that is not being sent another one."""

    def lease_report_of(
        self, numbers: Sequence[int], attempts: int, now: datetime, until: datetime
    ) -> Commitment | None:
        """Lease one of these reports with that many failed attempts, due or not, if it is pending and not leased."""

    def renew(self, commitment: Commitment, until: datetime) -> bool:
        """Extend a lease; False when it was lost."""

    def postpone(self, commitment: Commitment, due_at: datetime) -> None:
        """End the lease of a request, and verify its instances again at ``due_at``."""

    def conclude(self, commitment: Commitment, results: Sequence[FailureReason | None], now: datetime) -> bool:
        """Store the result for each reference; False when the lease was lost.

        The report is pending from now on.  A web client gets none: ``find_request`` returns its results for some days.
        """

    def report_failed(
        self, commitment: Commitment, error: str, now: datetime, again_at: datetime, give_up_before: datetime
    ) -> None:
        """Record a failed report.

        No report to this requester is tried before ``again_at``.  Reports of requests older than ``give_up_before`` are
        given up.
        """

    def report_delivered(self, commitment: Commitment, now: datetime) -> None:
        """Record a delivered report: it is not sent again, and other reports to the requester are due now."""

    def owed(self) -> list[OwedReports]:
        """List the requesters with pending reports, the oldest first."""

    def ask(self, transaction_uid: str, now: datetime) -> None:
        """Record that we request a commitment from another AE; old records are deleted after some time."""

    def answer(self, transaction_uid: str, results: Mapping[Reference, int]) -> bool:
        """Record its report: 0 for committed, else a Failure Reason.  False when we sent no such request."""

    def answer_to(self, transaction_uid: str) -> dict[Reference, int] | None:
        """Return its report; None before it has come."""
