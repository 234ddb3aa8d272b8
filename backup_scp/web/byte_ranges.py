"""Conditional and partial requests: If-None-Match, Range, If-Range (RFC 9110 13.1.2, 14)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.web.problems import Problem
from backup_scp.web.streamed import Part, StreamedResponse

_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")

Parts = Callable[[int, int], Iterator[Part]]
"""Yields so many bytes from a position."""


def not_modified(request: Request, tag: str) -> Response | None:
    """Return 304 when the caller has this representation already."""
    named = ",".join(request.headers.getlist("if-none-match"))
    tags = {each.strip().removeprefix("W/") for each in named.split(",")}
    return Response(status_code=304, headers={"etag": tag}) if tag in tags or "*" in tags else None


def ranged(request: Request, parts: Parts, size: int, content_type: str, tag: str) -> Response:
    """Return a body of a known length, or the range of it that was requested.

    Several ranges in one request get the whole, which RFC 9110 14.2 allows.

    Raises
    ------
    Problem
        416
    """
    headers = {"etag": tag, "accept-ranges": "bytes"}
    asked = _range(request, size, tag)
    if asked is None:
        return StreamedResponse(parts(0, size), content_type, size, headers)
    first, last = asked
    length = last - first + 1
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    return StreamedResponse(parts(first, length), content_type, length, headers, 206)


def _range(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """Return the first and last byte that are asked for; None for all."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or not (found[1] or found[2]) or request.headers.get("if-range", tag) != tag:
        return None
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(size - 1, int(found[2]) if found[2] else size - 1)
    if found[1] and found[2] and int(found[2]) < int(found[1]):
        return None  # no range at all: it is ignored
    if first > last or (not found[1] and not int(found[2])):
        raise Problem(416, f"The range is not in the {size} bytes that there are", {"content-range": f"bytes */{size}"})
    return first, last
