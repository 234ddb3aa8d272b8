"""All attacks, by their name in the table."""

from __future__ import annotations

from tests.system.probes import connections
from tests.system.probes.target import Attack

ATTACKS: dict[str, Attack] = {
    "400 silent connections": connections.silent,
    "A-ASSOCIATE-RQ byte by byte": connections.byte_by_byte,
    "wrong called AE title": connections.wrong_called_title,
    "A-ASSOCIATE-RQ of 1 MB": connections.huge_requests,
    "PDUs that announce 4 GB": connections.lengths_of_4_gb,
    "P-DATA without end": connections.endless_p_data,
    "Associations never released": connections.never_released,
    "connections opened and closed": connections.opened_and_closed,
    "Associations one after the other": connections.released_at_once,
    "TLS handshakes that stop": connections.half_a_handshake,
    "no TLS at the port of TLS": connections.not_tls,
    "HTTP to DICOM, DICOM to HTTP": connections.wrong_protocol,
    "PDUs that break the rules": connections.seeded_streams,
}
"""What a name does is in the docstring of its function."""

WARMING: tuple[Attack, ...] = (connections.never_released, connections.released_at_once)
