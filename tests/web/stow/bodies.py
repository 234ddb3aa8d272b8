"""Bodies of STOW-RS requests."""

from __future__ import annotations

from collections.abc import Iterable

BOUNDARY = "b0undary"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def part(content: bytes, content_type: str = "application/dicom", **headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def body(*contents: bytes) -> bytes:
    return joined(map(part, contents))


def joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
