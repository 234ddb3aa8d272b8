"""Name the clinic whose images an Association is for, by User Identity Negotiation (PS3.7 D.3.3.7; docs/adr/0069).

A username that begins with ``backup-scp-site:`` names it.  Only another backup-scp reads it; one that answers has
understood it.
"""

from __future__ import annotations

from backup_scp.dimse.upper_layer.user_identity import HEAD, SITE_MARK, IdentityKind, user_items, with_user_item
from backup_scp.dimse.upper_layer.variable_items import USER_IDENTITY, USER_IDENTITY_ANSWER

_ANSWER_WANTED = 1
_LONGEST = 64 * 4  # characters in UTF-8


def with_site(request: bytes, site: str) -> bytes:
    """Return an A-ASSOCIATE-RQ that names a site."""
    name = SITE_MARK + site.encode("utf-8", "surrogatepass")
    return with_user_item(
        request, USER_IDENTITY, HEAD.pack(IdentityKind.NAME, _ANSWER_WANTED, len(name)) + name + b"\0\0"
    )


def is_answered(acceptance: bytes) -> bool:
    """Tell whether an A-ASSOCIATE-AC says so.

    Raises
    ------
    ValueError, struct.error
        It is malformed.
    """
    return any(kind == USER_IDENTITY_ANSWER for kind, _ in user_items(acceptance))


def site_of(request: bytes) -> str:
    """Return the site that an A-ASSOCIATE-RQ names; empty for none.

    Raises
    ------
    ValueError, struct.error
        It is malformed.
    """
    for kind, body in user_items(request):
        if kind == USER_IDENTITY and len(body) >= HEAD.size:
            identity, _, length = HEAD.unpack_from(body)
            name = body[HEAD.size : HEAD.size + length]
            if identity == IdentityKind.NAME and name.startswith(SITE_MARK) and length <= len(SITE_MARK) + _LONGEST:
                return name.removeprefix(SITE_MARK).decode("utf-8", "surrogateescape")
    return ""
