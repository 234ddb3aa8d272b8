"""Write a receipt as JSON, UTF-8: one object, with a line for each row."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from backup_scp.receipts.receipt import Receipt

_encode = msgspec.json.encode


def write_json(receipt: Receipt, stream: BinaryIO) -> None:
    """Write a receipt as JSON."""
    facts = {name.lower().replace(" ", "_"): value for name, value in receipt.facts.items()}
    members = {
        "title": receipt.title,
        "complete": receipt.complete,
        "result": receipt.result,
        "facts": facts,
        "problems": receipt.problems,
    }
    stream.write(_encode(members)[:-1] + b',\n"rows":[')
    names = [column.name for column in receipt.columns]
    for number, row in enumerate(receipt.rows):
        comma = b"," if number else b""
        stream.write(comma + b"\n" + _encode(dict(zip(names, row, strict=True))))
    stream.write(b"\n]}\n")
