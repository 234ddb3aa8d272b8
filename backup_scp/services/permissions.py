"""The one table of permissions: which kind of caller may find, retrieve and store, over DIMSE and over the web."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """What a caller may do."""

    FIND = "find"  # C-FIND; QIDO-RS
    RETRIEVE = "retrieve"  # C-GET, C-MOVE; WADO-RS, WADO-URI
    STORE = "store"  # C-STORE; STOW-RS
    STATE = "see the state of the backup"  # the pages
    RESTORE = "send studies back"  # the pages
    SETTINGS = "change settings"  # the pages


class CallerKind(StrEnum):
    """How a caller is known."""

    THIS_MACHINE = "this machine"  # its connection comes from this computer, and the settings trust such callers
    CONFIGURED_AE = "a configured AE"  # a [[remote]]
    STORING_AE = "a configured AE with query = false"
    UNKNOWN_AE = "any other AE"
    TOKEN = "a bearer token of [web] token_file"  # noqa: S105 - a description
    CERTIFICATE = "a client certificate of [web] ca"
    UNKNOWN_WEB = "any other web client"


_ALL = frozenset(Right)

RIGHTS: dict[CallerKind, frozenset[Right]] = {
    CallerKind.THIS_MACHINE: _ALL,
    CallerKind.CONFIGURED_AE: _ALL,
    CallerKind.STORING_AE: frozenset({Right.STORE}),
    CallerKind.UNKNOWN_AE: frozenset({Right.STORE}),  # a console must never lose an image for a missing setting
    CallerKind.TOKEN: _ALL,
    CallerKind.CERTIFICATE: _ALL,
    CallerKind.UNKNOWN_WEB: frozenset(),  # a web page that a user opens could store here otherwise
}


def may(kind: CallerKind, right: Right) -> bool:
    """Tell whether such a caller may do this."""
    return right in RIGHTS[kind]
