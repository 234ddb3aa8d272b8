"""The interface of what tells a person who does not look: e-mail, a webhook."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

ALERTS = "alerts"
"""The task that notes what was told, and why a channel does not take it."""


class Alert(NamedTuple):
    """A message to a person.  It has no patient's data, and no UID.

    Attributes
    ----------
    kind
        What it is about: ``drill`` or ``test``.
    node
        AE title of the node.
    at
        When that happened.
    is_alarm
        Whether a person must act.
    subject
        In one line.
    text
        What happened, and what to do, in lines.
    """

    kind: str
    node: str
    at: datetime
    is_alarm: bool
    subject: str
    text: str


class AlertChannel(Protocol):
    """One way to tell it.

    Attributes
    ----------
    name
        For people, and for the record of what was told.
    """

    name: str

    def send(self, alert: Alert) -> None:
        """Hand it over.

        Raises
        ------
        AlertNotSent
            Try again later.
        """
