"""The interface of what tells a person who does not look: e-mail, a webhook."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol


class Alert(NamedTuple):
    """A message to a person.  It has no patient's data, and no UID.

    Attributes
    ----------
    kind
        What it is about: ``alarm``, ``drill`` or ``test``.
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
    number
        Of this message, for those that answer it later; empty for one that nobody answers.
    answers
        Numbers of the messages that told of the same before.
    """

    kind: str
    node: str
    at: datetime
    is_alarm: bool
    subject: str
    text: str
    number: str = ""
    answers: tuple[str, ...] = ()


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


class AlarmCondition(NamedTuple):
    """What is so now, and is told when it begins and when it ends.

    Attributes
    ----------
    key
        Kind, aspect and subject; the same as long as it lasts.
    sentence
        What is so.
    fix
        What to do, in lines.
    ended
        What to say when it is over.
    grace
        So long it must last before it is told.
    number
        How many images or such; told again when it grows.
    """

    key: tuple[str, str, str]
    sentence: str
    fix: str
    ended: str
    grace: timedelta
    number: int = 0


class SeenConditions(NamedTuple):
    """All conditions of one moment; those whose ``key`` begins with a kind of ``unknown`` could not be looked for."""

    conditions: tuple[AlarmCondition, ...]
    is_unknown: frozenset[str] = frozenset()
