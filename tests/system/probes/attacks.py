"""All attacks, by their name in the table."""

from __future__ import annotations

from tests.system.probes import connections, messages, requests
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
    "the smallest fragments": messages.smallest_fragments,
    "C-ECHO without waiting": messages.echoes_without_waiting,
    "C-FIND of a stranger": messages.refused_queries,
    "C-FIND for everything": messages.wide_queries,
    "C-MOVE to nowhere": messages.moves_to_nowhere,
    "N-ACTION with 100,000 references": messages.commitments_of_100_000,
    "images that end in the middle": messages.images_cut_off,
    "deflated bombs": messages.deflated_bombs,
    "sequences 5,000 deep": messages.deep_sequences,
    "half HTTP requests": requests.half_requests,
    "huge HTTP headers": requests.huge_headers,
    "ranges without number": requests.many_ranges,
    "multipart with 20,000 parts": requests.many_parts,
    "metadata of 8 MB": requests.large_metadata,
    "guesses of passwords and tokens": requests.login_guesses,
    "HTTP bodies that break the rules": requests.seeded_bodies,
}
"""What a name does is in the docstring of its function."""

WARMING: tuple[Attack, ...] = (connections.never_released, connections.released_at_once, requests.half_requests)
