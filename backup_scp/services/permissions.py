"""The one table of permissions: which kind of caller, and which role of a user, may do what, over DIMSE and the web."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from backup_scp.ports import EVERY_SITE, SEES_ALL, SEES_NOTHING, RemoteAE, RemoteService, Role, SiteScope


class Right(StrEnum):
    """What a caller may do."""

    ECHO = "echo"  # C-ECHO
    FIND = "find"  # C-FIND; QIDO-RS
    RETRIEVE = "retrieve"  # C-GET; WADO-RS, WADO-URI
    MOVE = "move"  # C-MOVE
    STORE = "store"  # C-STORE; STOW-RS and its commitment
    COMMIT = "commit"  # N-ACTION of Storage Commitment
    REPORT = "report on Storage Commitment"  # N-EVENT-REPORT of another PACS
    RECEIVE = "be sent images"  # as Move Destination, of a restore, as a copy
    STATE = "see the state of the backup"  # the pages
    RESTORE = "send studies back"  # the pages
    SHARE = "share studies by a link"  # the pages
    LINK = "link patients of two clinics"  # the pages
    SETTINGS = "change settings"  # the pages
    USERS = "change users"  # the pages
    LOOK_BY_LINK = "look at what a link shows"  # the pages of a share link
    SAVE_BY_LINK = "save what a link shows"  # the same


class CallerKind(StrEnum):
    """How a caller is known."""

    THIS_MACHINE = "this machine"  # its connection comes from this computer, and the settings trust such callers
    CONFIGURED_AE = "a configured AE"  # a [[remote]]; its settings may take any of these rights away
    UNKNOWN_AE = "any other AE"
    REFUSED_AE = 'any other AE, with strangers = "refuse"'
    TOKEN = "a bearer token of [web] token_file"  # noqa: S105 - a description
    CERTIFICATE = "a client certificate of [web] ca"
    USER = "a user who is logged in"  # what it may do is its role's
    SHARE_LINK = "a browser that has opened a share link"  # what it may do is the link's
    UNKNOWN_WEB = "any other web client"


_BY_LINK = frozenset({Right.LOOK_BY_LINK, Right.SAVE_BY_LINK})


_SENDS = frozenset({Right.ECHO, Right.STORE, Right.COMMIT, Right.REPORT})
_OF_PROGRAMS = frozenset({Right.FIND, Right.RETRIEVE, Right.STORE, Right.STATE, Right.RESTORE, Right.SHARE})
_OF_PEOPLE = frozenset({Right.LINK, Right.SETTINGS, Right.USERS})  # a further copy of all images is a setting

# Each row names what is allowed.  What is not named is denied: a new kind of caller or a new right, too.
RIGHTS: dict[CallerKind, frozenset[Right]] = {
    CallerKind.THIS_MACHINE: _OF_PROGRAMS | _OF_PEOPLE | _SENDS | {Right.MOVE},
    CallerKind.CONFIGURED_AE: _SENDS | {Right.FIND, Right.RETRIEVE, Right.MOVE, Right.RECEIVE},
    CallerKind.UNKNOWN_AE: _SENDS,  # a console must never lose an image for a missing setting
    CallerKind.REFUSED_AE: frozenset(),
    CallerKind.TOKEN: _OF_PROGRAMS,  # viewers and other programs have one
    CallerKind.CERTIFICATE: _OF_PROGRAMS,
    CallerKind.USER: frozenset(),
    CallerKind.SHARE_LINK: frozenset(),
    CallerKind.UNKNOWN_WEB: frozenset(),  # a web page that a user opens could store here otherwise
}

RIGHT_TO_USE: dict[RemoteService, Right] = {
    RemoteService.STORE: Right.STORE,
    RemoteService.COMMIT: Right.COMMIT,
    RemoteService.FIND: Right.FIND,
    RemoteService.GET: Right.RETRIEVE,
    RemoteService.MOVE: Right.MOVE,
}
"""The right behind each service that ``services`` of a ``[[remote]]`` can name."""

_OF_EVERY_REMOTE = frozenset({Right.ECHO, Right.REPORT})

_SEE = frozenset({Right.FIND, Right.RETRIEVE, Right.STATE})
_RESTORE = _SEE | {Right.RESTORE}
_SHARE = _RESTORE | {Right.SHARE, Right.LINK}

ROLE_RIGHTS: dict[Role, frozenset[Right]] = {
    Role.SEE: _SEE,
    Role.RESTORE: _RESTORE,
    Role.SHARE: _SHARE,
    Role.ADMINISTER: _SHARE | {Right.STORE, Right.SETTINGS, Right.USERS},
}

LINK_RIGHTS: dict[bool, frozenset[Right]] = {False: _BY_LINK - {Right.SAVE_BY_LINK}, True: _BY_LINK}
"""What a share link gives, by whether its study may be saved; nothing else gives that, and a link nothing else."""

OF_THE_NODE = frozenset({Right.STORE, Right.STATE, Right.SETTINGS, Right.USERS})
"""Rights that no site limits: only a role for all sites gives them.

The state names every console.  An image that is stored over the web has no site.
"""

_BOTH = 2  # whoever says that patients of two clinics are one person has the role at both


def may(kind: CallerKind, right: Right, scope: SiteScope = SEES_ALL) -> bool:
    """Tell whether such a caller, who sees these sites, may do this; what it stores belongs to its first site."""
    return right in RIGHTS.get(kind, ()) and (scope.is_all or right not in OF_THE_NODE - {Right.STORE})


def remote_may(remote: RemoteAE, right: Right) -> bool:
    """Tell whether a ``[[remote]]`` may do this, when it calls and when it is called."""
    return right in _rights_of(remote.services, is_destination=remote.destination)


@lru_cache(maxsize=64)
def _rights_of(services: frozenset[RemoteService], *, is_destination: bool) -> frozenset[Right]:
    named = _OF_EVERY_REMOTE | {RIGHT_TO_USE[service] for service in services if service in RIGHT_TO_USE}
    return RIGHTS[CallerKind.CONFIGURED_AE] & (named | ({Right.RECEIVE} if is_destination else frozenset()))


def scope_with(roles: Mapping[str, Role], right: Right) -> SiteScope:
    """Return the sites at which a user may do this."""
    if EVERY_SITE in roles and right in ROLE_RIGHTS.get(roles[EVERY_SITE], ()):
        return SEES_ALL
    if right in OF_THE_NODE:
        return SEES_NOTHING
    sites = frozenset(site for site, role in roles.items() if right in ROLE_RIGHTS.get(role, ())) - {EVERY_SITE}
    return SEES_NOTHING if right is Right.LINK and len(sites) < _BOTH else SiteScope(sites)


def user_may(roles: Mapping[str, Role], right: Right) -> bool:
    """Tell whether a user may do this at any site."""
    return scope_with(roles, right) != SEES_NOTHING
