"""The upper layer: send and receive PDUs in the Association's own thread (PS3.8 9, docs/adr/0017).

``socket_io`` reads and writes a socket with timeouts, ``tls_socket`` the same with TLS; ``buffered_socket`` gives it
a buffer and deadlines.  ``state_table`` is PS3.8 Table 9-10, ``state_machine`` executes it.  ``association_control``
reads PDUs and turns each into an event, ``data_transfer`` reads and writes P-DATA-TF in Sta6.  ``requestor`` opens our
own Associations, ``user_information`` names our implementation, ``variable_items`` removes unknown items.
``codecs`` is the only module that imports pynetdicom.
"""

from __future__ import annotations

from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded, Interrupted, PeerTimedOut
from backup_scp.dimse.upper_layer.data_transfer import MessageFragment, UpperLayer
from backup_scp.dimse.upper_layer.local_ae import LocalAE
from backup_scp.dimse.upper_layer.socket_io import Selector
from backup_scp.dimse.upper_layer.timing import Timing
from backup_scp.dimse.upper_layer.tls_socket import Secured, SecuredSocket

__all__ = [
    "AssociationEnded",
    "Interrupted",
    "LocalAE",
    "MessageFragment",
    "PeerTimedOut",
    "Secured",
    "SecuredSocket",
    "Selector",
    "Timing",
    "UpperLayer",
]
