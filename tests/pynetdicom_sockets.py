"""Close the sockets that pynetdicom forgets.

Where a peer closes first, pynetdicom leaves the socket to the garbage collector.  Python then warns of it in whichever
test runs at that moment, and a warning fails a test.
"""

from __future__ import annotations

import weakref
from typing import Any

from pynetdicom.transport import AssociationSocket


def close_forgotten_sockets() -> None:
    """From now on, close the socket of each `AssociationSocket` when nothing refers to it any more."""
    initialise: Any = AssociationSocket.__init__

    def tracked(self: Any, *arguments: Any, **named: Any) -> None:
        initialise(self, *arguments, **named)
        if self.socket is not None:
            weakref.finalize(self, self.socket.close)

    AssociationSocket.__init__ = tracked  # type: ignore[method-assign]
