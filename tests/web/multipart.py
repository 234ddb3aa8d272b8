"""Read multipart answers strictly: every part has a Content-Type, and the closing boundary is there."""

from __future__ import annotations

from typing import NamedTuple

from backup_scp.web.media_types import parse_one


class Part(NamedTuple):
    content_type: str
    headers: dict[str, str]
    content: bytes


def parts_of(response) -> list[Part]:
    """Return the parts of a whole answer."""
    media_type = parse_one(response.headers["content-type"])
    assert media_type.name == "multipart/related", response.headers["content-type"]
    return parts_in(response.content, media_type.parameters["boundary"])


def parts_in(body: bytes, boundary: str) -> list[Part]:
    delimiter = b"--" + boundary.encode()
    assert body.endswith(b"\r\n" + delimiter + b"--\r\n") or body == delimiter + b"--\r\n", "no closing boundary"
    pieces = (b"\r\n" + body).split(b"\r\n" + delimiter)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().strip().split("\r\n"))
        parts.append(Part(headers["Content-Type"], headers, content))
    return parts
