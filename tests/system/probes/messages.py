"""Attacks with messages: queries, retrievals, commitments and images (PS3.7 9, 10; PS3.4)."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

from pydicom.dataset import Dataset

from backup_scp.dimse.messages.commitment_data_sets import action_information
from backup_scp.ports import Reference
from tests.dimse.wire import (
    ABORT,
    C_FIND_RQ,
    C_MOVE_RQ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA_SET,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE_RP,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Elements,
    cancel_rq,
    command,
    echo_rq,
    encoded,
    fragments,
    p_data,
    pdv,
    release_rq,
    store_rq,
)
from tests.samples import ct_series, encode, uid
from tests.system.probes.target import ATTACKER, VIEWER, VIEWER_ADDRESS, Target, at_once

DEFLATED = "1.2.840.10008.1.2.1.99"
COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
FIND, MOVE = ((STUDY_ROOT_FIND, (IMPLICIT,)),), ((STUDY_ROOT_MOVE, (IMPLICIT,)),)
N_ACTION_RQ = 0x0130
REFUSED, UNKNOWN_DESTINATION = 0x0124, 0xA801
TOO_MANY = {0x0115, 0x0213}  # references of one, or of several that are read at once
_REFERENCES = 100_000
_BOMB_BYTES = 100_000_000
_DEPTH = 5000
_FRAGMENT_BYTES = 16_000


def smallest_fragments(target: Target) -> None:
    """Empty fragments: each costs the node as much as one of 128 KB."""
    _flood(target, [p_data(*[pdv(1, COMMAND)] * 20_000)] * 4, callers=16)


def echoes_without_waiting(target: Target) -> None:
    """C-ECHO-RQs whose answers nobody waits for."""
    _flood(target, [p_data(pdv(1, COMMAND | LAST, echo_rq(number))) for number in range(1, 1500)], callers=16)


def _flood(target: Target, pieces: Sequence[bytes], callers: int) -> None:
    content = b"".join(pieces) + release_rq()

    def send(_: int) -> None:
        with target.associated() as peer, contextlib.suppress(ConnectionError):
            peer.send(content)
            while peer.pdu()[0] not in {RELEASE_RP, ABORT}:
                pass

    at_once(send, callers, callers)


def refused_queries(target: Target) -> None:
    """C-FIND of a stranger: refused, again and again."""
    identifier = encoded(_query("STUDY"), IMPLICIT)

    def ask(_: int) -> None:
        with target.associated(FIND) as peer:
            for number in range(1, 40):
                peer.send(*_request(C_FIND_RQ, STUDY_ROOT_FIND, identifier, number))
                assert peer.message().status == REFUSED
            peer.release()

    at_once(ask, 16)


def wide_queries(target: Target) -> None:
    """C-FIND for everything by a viewer, at each level: half are cancelled, some not even read."""
    levels = [encoded(_query(level), IMPLICIT) for level in ("STUDY", "SERIES", "IMAGE")]

    def ask(number: int) -> None:
        with target.associated(FIND, VIEWER_ADDRESS, VIEWER) as peer:
            peer.send(*_request(C_FIND_RQ, STUDY_ROOT_FIND, levels[number % 3], 1))
            if number % 4 == 3:
                return
            if number % 2:
                peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(1))))
            while peer.message().status in {0xFF00, 0xFF01}:
                pass

    at_once(ask, 12, callers=6)


def moves_to_nowhere(target: Target) -> None:
    """C-MOVE to Move Destinations that nobody has configured, by a viewer and by a stranger."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", uid("1")
    wanted = encoded(identifier, IMPLICIT)

    def ask(number: int) -> None:
        source, calling, status = (ATTACKER, "STRANGER", REFUSED)
        if number % 2:
            source, calling, status = (VIEWER_ADDRESS, VIEWER, UNKNOWN_DESTINATION)
        with target.associated(MOVE, source, calling) as peer:
            for at in range(1, 30):
                peer.send(*_request(C_MOVE_RQ, STUDY_ROOT_MOVE, wanted, at, {0x0600: f"NOWHERE{at}"}))
                assert peer.message().status == status
            peer.release()

    at_once(ask, 16)


def commitments_of_100_000(target: Target) -> None:
    """N-ACTION with 100,000 references."""
    pieces = _action()

    def ask(_: int) -> None:
        contexts = ((COMMITMENT, (IMPLICIT,)),)
        with target.associated(contexts) as peer, contextlib.suppress(ConnectionError):
            peer.send(*pieces)
            assert peer.message().status in TOO_MANY

    at_once(ask, 6, callers=3)


@lru_cache(1)
def _action() -> tuple[bytes, ...]:
    pairs = (Reference(CT_IMAGE_STORAGE, f"1.2.826.0.1.3680043.10.9999.{number}") for number in range(_REFERENCES))
    elements: Elements = {0x0003: COMMITMENT, 0x1001: WELL_KNOWN, 0x1008: 1}
    request = command(elements | {0x0100: N_ACTION_RQ, 0x0110: 1, 0x0800: DATA_SET})
    data = action_information("1.2.3.4", pairs, IMPLICIT)
    return (p_data(pdv(1, COMMAND | LAST, request)), *fragments(1, 0, data, _FRAGMENT_BYTES))


def images_cut_off(target: Target) -> None:
    """C-STORE whose image ends in the middle: with a release, a reset, an abort, or the next request."""
    image = encode(ct_series(1)[0])
    begun = [p_data(pdv(1, COMMAND | LAST, store_rq(image.sop_instance_uid))), p_data(pdv(1, 0, image.data_set[:600]))]
    contexts = ((CT_IMAGE_STORAGE, (EXPLICIT,)),)

    def send(number: int) -> None:
        with target.associated(contexts) as peer:
            peer.send(*begun)
            if number % 4 == 1:
                peer.reset()
            elif number % 4 == 2:
                peer.send(release_rq())
            elif number % 4 == 3:
                peer.send(*begun)

    at_once(send, 200)


def deflated_bombs(target: Target) -> None:
    """C-STORE of a 500 KB that become 100 MB, before and behind what the node reads."""
    whole = encode(ct_series(1)[0]).data_set
    zeros = struct.pack("<HH2sxxI", 0x0009, 0x1010, b"OB", _BOMB_BYTES)
    _store(target, DEFLATED, [_bomb(whole, zeros, at) for at in (whole.index(b"\x08\x00\x60\x00"), len(whole))], 4)


@lru_cache(2)
def _bomb(whole: bytes, head: bytes, at: int) -> bytes:
    deflate = zlib.compressobj(1, wbits=-15)
    pieces = [deflate.compress(whole[:at] + head)]
    pieces += [deflate.compress(bytes(1_000_000)) for _ in range(_BOMB_BYTES // 1_000_000)]
    return b"".join([*pieces, deflate.compress(whole[at:]), deflate.flush()])


def deep_sequences(target: Target) -> None:
    """C-STORE and C-FIND with sequences in sequences, thousands deep, ended and not."""
    open_item = struct.pack("<HHIHHI", 0x0008, 0x1140, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    close_item = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    whole = encode(ct_series(1)[0], IMPLICIT).data_set
    at = whole.index(b"\x08\x00\x60\x00")
    deep = [whole[:at] + open_item * _DEPTH + close_item * ended + whole[at:] for ended in (_DEPTH, 0)]
    _store(target, IMPLICIT, deep, 12)
    keys = encoded(_query("STUDY"), IMPLICIT)
    asked = keys + open_item * _DEPTH + close_item * _DEPTH

    def ask(_: int) -> None:
        with target.associated(FIND, VIEWER_ADDRESS, VIEWER) as peer:
            peer.send(*_request(C_FIND_RQ, STUDY_ROOT_FIND, asked, 1))
            with contextlib.suppress(ConnectionError):
                peer.message()

    at_once(ask, 8)


def _store(target: Target, syntax: str, contents: Sequence[bytes], times: int) -> None:
    """Send images of one SOP Instance with these contents; each is answered, whatever the Status."""
    contexts = ((CT_IMAGE_STORAGE, (syntax,)),)
    name = encode(ct_series(1)[0]).sop_instance_uid

    def send(number: int) -> None:
        with target.associated(contexts) as peer:
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(name))))
            peer.send(*fragments(1, 0, contents[number % len(contents)], _FRAGMENT_BYTES))
            with contextlib.suppress(ConnectionError):
                peer.message()

    at_once(send, times, callers=4)


def _query(level: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDescription", "SeriesInstanceUID"):
        setattr(identifier, keyword, "")
    if level == "IMAGE":
        identifier.SOPInstanceUID = ""
    return identifier


def _request(
    field: int, sop_class: str, identifier: bytes, number: int, more: Elements | None = None
) -> tuple[bytes, ...]:
    elements: Elements = {0x0002: sop_class, 0x0100: field, 0x0110: number, 0x0700: 0, 0x0800: DATA_SET}
    request = command(elements | (more or {}))
    return (p_data(pdv(1, COMMAND | LAST, request)), *fragments(1, 0, identifier, _FRAGMENT_BYTES))
