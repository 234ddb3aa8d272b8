"""A Move Destination that keeps nothing: ``python -m benchmarks.sink PORT [TRANSFER_SYNTAX ...]``.

It takes every Transfer Syntax, or those that are named.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

from benchmarks.dimse import (
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    OFFERED_PDU,
    P_DATA_TF,
    RESPONDED_TO,
    RESPONSE,
    STATUS,
    Connection,
    Message,
    command_pdu,
    item,
    number,
    pdu,
)

AE_TITLE = "SINK"
_ABSTRACT_SYNTAX_NOT_SUPPORTED, _TRANSFER_SYNTAXES_NOT_SUPPORTED = 3, 4
_QUERY_RETRIEVE = b"1.2.840.10008.5.1.4.1.2."  # it lists nothing, and a sender may wait until it does
_COPIED = (AFFECTED_SOP_CLASS, AFFECTED_SOP_INSTANCE)


def success(request: Message) -> bytes:
    """Encode the response to a C-STORE-RQ or C-ECHO-RQ."""
    elements: dict[int, int | str | bytes] = {tag: request.command[tag] for tag in _COPIED if tag in request.command}
    elements[COMMAND_FIELD] = RESPONSE | number(request.command[COMMAND_FIELD])
    elements[RESPONDED_TO] = request.command[MESSAGE_ID]
    return command_pdu(request.context, elements | {DATA_SET_TYPE: NO_DATA_SET, STATUS: 0})


def _acceptance(request: bytes, taken: frozenset[bytes]) -> bytes:
    """Accept each Presentation Context with its first Transfer Syntax, if that is taken (PS3.8 9.3.3)."""
    body, at = request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1"), 68
    while at < len(request):
        kind, size = struct.unpack_from(">BxH", request, at)
        if kind == 0x20:
            inside = at + 8
            while request[inside] != 0x40:
                inside += 4 + struct.unpack_from(">H", request, inside + 2)[0]
            syntax = request[inside : inside + 4 + struct.unpack_from(">H", request, inside + 2)[0]]
            result = _TRANSFER_SYNTAXES_NOT_SUPPORTED if taken and syntax[4:] not in taken else 0
            if _QUERY_RETRIEVE in request[at:inside]:
                result = _ABSTRACT_SYNTAX_NOT_SUPPORTED
            body += item(0x21, bytes((request[at + 4], 0, result, 0)) + syntax)
        at += 4 + size
    body += item(0x50, item(0x51, struct.pack(">I", OFFERED_PDU)) + item(0x52, b"1.2.826.0.1.3680043.10.1337.9"))
    return pdu(A_ASSOCIATE_AC, body)


def _serve(accepted: socket.socket, taken: frozenset[bytes]) -> None:
    with accepted:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted)
        kind, body = connection.pdu()
        if kind != A_ASSOCIATE_RQ:
            return
        connection.write([_acceptance(body, taken)])
        while connection.peek() == P_DATA_TF:
            connection.write([success(connection.message())])
        if connection.pdu()[0] == A_RELEASE_RQ:
            connection.write([pdu(A_RELEASE_RP, bytes(4))])


def _quietly(accepted: socket.socket, taken: frozenset[bytes]) -> None:
    try:
        _serve(accepted, taken)
    except OSError:
        return  # the node has gone


def main() -> None:
    """Run from the command line."""
    taken = frozenset(syntax.encode() for syntax in sys.argv[2:])
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64) as listener:
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=_quietly, args=(accepted, taken), daemon=True).start()


if __name__ == "__main__":
    main()
