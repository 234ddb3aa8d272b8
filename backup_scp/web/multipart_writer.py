"""Write ``multipart/related`` (RFC 2387; PS3.18 8.6.1.2.1), one part after the other."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping


class MultipartWriter:
    """Frames parts.

    Parameters
    ----------
    root
        Media type of the parts.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.boundary = secrets.token_hex(16)
        self._has_parts = False

    @property
    def content_type(self) -> str:
        """The Content-Type of the whole."""
        return f'multipart/related; type="{self._root}"; boundary={self.boundary}'

    def head(self, content_type: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Return what stands before the bytes of a part."""
        lines = [f"--{self.boundary}", f"Content-Type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        before = "\r\n" if self._has_parts else ""
        self._has_parts = True
        return (before + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def end(self) -> bytes:
        """Return what stands behind the last part; without any part, an empty body's end."""
        before = "\r\n" if self._has_parts else ""
        return f"{before}--{self.boundary}--\r\n".encode()

    def whole(self, parts: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
        """Yield a body of small parts: the Content-Type and bytes of each."""
        for content_type, content in parts:
            yield self.head(content_type)
            yield content
        yield self.end()
