"""Associations of a sender that breaks PS3.8: PDUs along the grammar of its 9.3, in orders that its 9.2 forbids."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from tests.fuzz.data_sets import EXPLICIT, IMPLICIT, SYNTAXES, command_set, data_set, identifier, value
from tests.fuzz.mutation import lie, mutated

_VERIFICATION, _CT, _DX = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
_FIND, _MOVE, _GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_COMMITMENT, _WORKLIST, _INVENTORY = "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.1.1.201.2"
_CLASSES = (_VERIFICATION, _CT, _DX, _FIND, _MOVE, _GET, _COMMITMENT, _WORKLIST, _INVENTORY, "1.2.3")
_FIELDS = (
    0x0001,
    0x0010,
    0x0020,
    0x0021,
    0x0030,
    0x0FFF,
    0x0100,
    0x0110,
    0x0120,
    0x0130,
    0x0140,
    0x8001,
    0x8030,
    0x8100,
    0,
)
_REQUESTS = {
    _VERIFICATION: 0x0030,
    _CT: 0x0001,
    _DX: 0x0001,
    _FIND: 0x0020,
    _MOVE: 0x0021,
    _GET: 0x0010,
    _COMMITMENT: 0x0130,
}


def _pdu(rng: Random, kind: int, body: bytes) -> bytes:
    # A length that is too long makes the peer wait for the rest, which the end of the stream then cuts off.
    return struct.pack(">BBI", kind, rng.choice([0, 0, 0, 255]), lie(rng, len(body), 32)) + body


def _item(rng: Random, kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, lie(rng, len(body), 16)) + body


def _counted(rng: Random, text: bytes) -> bytes:
    return struct.pack(">H", lie(rng, len(text), 16)) + text


def _true_item(_rng: Random, kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _user_information(rng: Random, *, is_sound: bool) -> bytes:
    uid = rng.choice(_CLASSES).encode()
    others: tuple[Callable[[], bytes], ...] = (
        lambda: _item(rng, 0x53, rng.randbytes(4)),
        lambda: _item(rng, 0x54, struct.pack(">H", lie(rng, len(uid), 16)) + uid + rng.randbytes(2)),
        lambda: _item(rng, 0x55, value(rng)[:16]),
        lambda: _item(rng, 0x56, struct.pack(">H", lie(rng, len(uid), 16)) + uid + rng.randbytes(rng.randrange(8))),
        lambda: _item(rng, 0x57, struct.pack(">H", len(uid)) + uid + rng.randbytes(rng.randrange(8))),
        lambda: _item(
            rng, 0x58, bytes([rng.randrange(7), rng.randrange(3)]) + _counted(rng, b"anna") + _counted(rng, b"x")
        ),
        lambda: _item(rng, rng.randrange(256), rng.randbytes(rng.randrange(16))),
    )
    items = [_item(rng, 0x51, struct.pack(">I", rng.choice([0, 16384, 1, 4096, 0xFFFFFFFF])))]
    items.append(_item(rng, 0x52, rng.choice([b"1.2.3.4", b"", value(rng)])))
    if is_sound:
        items = [
            _true_item(rng, 0x51, struct.pack(">I", rng.choice([0, 16384, 4096]))),
            _true_item(rng, 0x52, b"1.2.3"),
        ]
        return _true_item(rng, 0x50, b"".join(items))
    items += [rng.choice(others)() for _ in range(rng.randrange(4))]
    return _item(rng, 0x50, b"".join(items))


def _request(rng: Random, contexts: list[tuple[str, str]]) -> bytes:
    """Return an A-ASSOCIATE-RQ, mostly one that is accepted, so that what follows is read."""
    is_sound = rng.random() < 0.75
    item = _true_item if is_sound else _item
    items = [item(rng, 0x10, b"1.2.840.10008.3.1.1.1" if is_sound or rng.random() < 0.8 else b"1.2")]
    for number, (abstract, transfer) in enumerate(contexts):
        syntaxes = [transfer, *(rng.choice(SYNTAXES) for _ in range(rng.randrange(2)))]
        inside = item(rng, 0x30, abstract.encode()) + b"".join(item(rng, 0x40, uid.encode()) for uid in syntaxes)
        context_id = 2 * number + 1 if is_sound or rng.random() < 0.8 else rng.randrange(256)
        items.append(item(rng, 0x20, bytes((context_id, 0, 0, 0)) + inside))
    items.append(_user_information(rng, is_sound=is_sound))
    if is_sound:
        head = struct.pack(">HH", 1, 0) + b"BACKUP_SCP      " + b"FUZZ".ljust(16)
        return struct.pack(">BxI", 1, len(body := head + bytes(32) + b"".join(items))) + body
    rng.shuffle(items)
    called = rng.choice([b"BACKUP_SCP      ", b"BACKUP_SCP      ", b"OTHER".ljust(16), b" " * 16, b"\0" * 16])
    head = struct.pack(">HH", rng.choice([1, 1, 1, 0]), 0) + called + rng.choice([b"FUZZ".ljust(16), rng.randbytes(16)])
    return _pdu(rng, 1, mutated(rng, head + bytes(32) + b"".join(items)))


def _fragments(rng: Random, context_id: int, control: int, data: bytes) -> list[bytes]:
    step = rng.choice([1 << 20, 1 << 20, 16, 1 + len(data) // 3])
    pieces = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
    made = []
    for number, piece in enumerate(pieces):
        last = 2 if number == len(pieces) - 1 else 0
        bits = control | last if rng.random() < 0.98 else rng.randrange(256)
        made.append(struct.pack(">IBB", lie(rng, len(piece) + 2, 32), context_id, bits) + piece)
    return made


def _message(rng: Random, contexts: list[tuple[str, str]]) -> list[bytes]:
    number = rng.randrange(len(contexts))
    abstract, syntax = contexts[number]
    field = _REQUESTS.get(abstract, 0x0001) if rng.random() < 0.85 else rng.choice(_FIELDS)
    has_data = field not in {0x0030, 0x0FFF} if rng.random() < 0.95 else rng.random() < 0.5
    context_id = 2 * number + 1 if rng.random() < 0.97 else rng.randrange(256)
    pdvs = _fragments(rng, context_id, 1, command_set(rng, field, abstract, has_data_set=has_data))
    if has_data:
        make = identifier if abstract in {_FIND, _MOVE, _GET} else data_set
        pdvs += _fragments(rng, context_id, 0, make(rng, syntax))
    if rng.random() < 0.5:
        return [_pdu(rng, 4, b"".join(pdvs))]
    return [_pdu(rng, 4, pdv) for pdv in pdvs]


def stream(rng: Random) -> list[bytes]:
    """Return the PDUs of one connection, the first mostly an A-ASSOCIATE-RQ that is accepted."""
    contexts = [(rng.choice(_CLASSES), rng.choice([IMPLICIT, EXPLICIT, *SYNTAXES])) for _ in range(rng.randrange(1, 5))]
    pdus = [_request(rng, contexts)] if rng.random() < 0.95 else []
    for _ in range(rng.randrange(1, 8)):
        pdus += _message(rng, contexts)
    others = [_pdu(rng, kind, bytes(4)) for kind in (3, 5, 6, 7)] + [
        _pdu(rng, rng.randrange(256), rng.randbytes(rng.randrange(32)))
    ]
    if rng.random() < 0.2:
        pdus.insert(rng.randrange(len(pdus) + 1), rng.choice([*others, _request(rng, contexts)]))
    if rng.random() < 0.5:
        pdus.append(_pdu(rng, 5, bytes(4)))
    return pdus
