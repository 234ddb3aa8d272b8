"""The upper layer: PDUs on a socket, driven by the Association's own thread (PS3.8 9, docs/adr/0017).

``stream`` is the socket, and how it waits; ``secured`` is TLS over it; ``connection`` gives it a buffer and deadlines;
``layer`` reads and writes P-DATA-TF in Sta6 and takes the usual way into Sta6 and out of it; ``state_machine`` is
pynetdicom's, for everything else; ``requesting`` opens Associations of ours, ``user_information`` is what we say of
ourselves, ``variable_items`` leaves out what nobody knows.
Only this folder knows pynetdicom's private parts.
"""

from __future__ import annotations

from backup_scp.dimse.upper_layer.acceptor import Fragment, UpperLayer
from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded, Interrupted, PeerTimedOut
from backup_scp.dimse.upper_layer.local_ae import LocalAE
from backup_scp.dimse.upper_layer.socket_io import Selector
from backup_scp.dimse.upper_layer.timing import Timing
from backup_scp.dimse.upper_layer.tls_socket import Secured, SecuredSocket

__all__ = [
    "AssociationEnded",
    "Fragment",
    "Interrupted",
    "LocalAE",
    "PeerTimedOut",
    "Secured",
    "SecuredSocket",
    "Selector",
    "Timing",
    "UpperLayer",
]
