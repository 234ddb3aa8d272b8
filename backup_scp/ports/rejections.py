"""The values that describe rejected callers, and the interface that records them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

_WITH_DIGITS = re.compile(r"\S*\d\S*")


class ServiceKind(StrEnum):
    """What a rejected caller had requested."""

    ASSOCIATION = "association"
    TLS = "tls"
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    COMMITMENT = "commitment"
    DESTINATION = "destination"  # a C-MOVE whose destination did not take the images
    CONTEXT = "context"  # a SOP Class that was refused in an accepted Association
    RELEASE = "release"  # an Association that its caller left open
    PROOF = "proof"  # a Storage Commitment of images that are not stored here


@dataclass(frozen=True, slots=True)
class Rejection:
    """A kind of refused request with its count, for ``status``.

    Attributes
    ----------
    service
        What was asked for.
    calling_ae_title, address
        Who asked.
    called_ae_title
        Whom it called; for ``DESTINATION`` the AE title of the Move Destination, for ``CONTEXT`` the SOP Class UID.
    reason
        Why, in the words sent to the peer; of reasons that differ only in a number, the last one.
    fix
        What a person can do; empty where nothing is known.
    count
        How often.
    last_at
        The last time.
    """

    service: ServiceKind
    calling_ae_title: str
    called_ae_title: str
    address: str
    reason: str
    fix: str
    count: int
    last_at: datetime

    @property
    def cause(self) -> str:
        """The reason without its numbers and UIDs, so that a thousand refused images make one line."""
        return _WITH_DIGITS.sub("#", self.reason)

    @property
    def settled_by(self) -> tuple[str, str, str, str]:
        """Whose later success, and with what, settles this rejection.

        Service, AE title and address (of caller or Move Destination), and for ``CONTEXT`` the SOP Class UID.
        """
        if self.service is ServiceKind.DESTINATION:
            return self.service, self.called_ae_title, "", ""
        about = self.called_ae_title if self.service is ServiceKind.CONTEXT else ""
        return self.service, self.calling_ae_title, self.address, about


class RejectionRecorder(Protocol):
    """Records rejected callers; never waits for a disk or a database."""

    def rejected(self, service: ServiceKind, calling: str, called: str, address: str, reason: str, fix: str) -> bool:
        """Count a rejection; True for the first of its kind in some seconds, which the caller should log."""

    def succeeded(self, service: ServiceKind, ae_title: str, address: str, about: str = "") -> None:
        """Settle the rejections that this success ends: see ``Rejection.settled_by``."""
