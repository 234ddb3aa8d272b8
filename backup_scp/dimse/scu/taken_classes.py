"""Ask a remote AE which SOP Classes it would take, without sending an image (PS3.8 9.3.3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from backup_scp.dimse.association.association import Association, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.errors import NothingAccepted
from backup_scp.ports import RemoteAE

MOST_CLASSES = 128  # contexts of one Association, PS3.8 9.3.2.2


def taken_classes(local: LocalAE, remote: RemoteAE, classes: Sequence[str]) -> frozenset[str]:
    """Return those of at most 128 SOP Classes that a remote AE takes, in a native Transfer Syntax.

    Raises
    ------
    DestinationUnavailable
        The text has the reason and what to check.
    """
    try:
        association = Association.request_from(
            local=local,
            called=remote.ae_title,
            host=remote.host,
            port=remote.port,
            contexts=[(abstract, NATIVE[:2]) for abstract in classes[:MOST_CLASSES]],
            tls=remote.tls,
        )
    except NothingAccepted:
        return frozenset()
    taken = frozenset(context.abstract_syntax for context in association.contexts.values())
    association.release()
    return taken
