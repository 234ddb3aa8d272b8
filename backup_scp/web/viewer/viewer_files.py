"""Serve the viewer's built files: a page, and scripts whose names change with their content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route as PathRoute

from backup_scp.errors import BackupSCPError
from backup_scp.ports import StudyReader
from backup_scp.services.permissions import Right
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.problems import Problem
from backup_scp.web.viewer.first_image import first_image

VIEWER_PATH = "/viewer/"
BUILT = Path(__file__).parent / "built"

_PAGE = "index.html"
_PLACE_OF_FIRST = b"<!--first image-->"
_UNHASHED = frozenset((_PAGE, "LICENSES.txt"))
_NAME = re.compile(r"assets/[A-Za-z0-9_.-]+\.(?:js|css|wasm)|LICENSES\.txt|" + re.escape(_PAGE))
_YEAR = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_COMPRESSED = (("br", ".br"), ("gzip", ".gz"))
_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".css": "text/css",
    ".html": "text/html",
    ".txt": "text/plain",
}
_MOST_FILES = 64
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What a browser must not let the page do: it talks to this node alone."""

MISSING = (
    "The viewer's page is not built. In a checkout, run  make viewer-page  (npm fetches what it needs); a wheel of "
    "make wheel  has it. Everything else works without it"
)


class _File(NamedTuple):
    content: bytes
    tag: str


def viewer_paths(
    answer: Callable[[Request, Exception], Response], index: StudyReader, folder: Path = BUILT
) -> list[PathRoute]:
    """Return the routes of the viewer.

    Parameters
    ----------
    answer
        Says in words what is wrong.
    index
        Knows which image is shown first.
    folder
        The built files; it may be missing.
    """

    async def endpoint(request: Request) -> Response:
        try:
            request.scope["caller"].require(Right.RETRIEVE)
            return await run_in_threadpool(_serve, request, index, folder)
        except Exception as error:  # noqa: BLE001 - else Starlette would log a traceback
            return answer(request, error)

    async def to_page(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"viewer/{query}", 308)

    return [
        PathRoute(VIEWER_PATH.rstrip("/"), to_page, methods=["GET"]),
        PathRoute(VIEWER_PATH + "{name:path}", endpoint, methods=["GET"]),
    ]


def _serve(request: Request, index: StudyReader, folder: Path) -> Response:
    """Answer with a file, compressed as the browser takes it."""
    name = request.path_params["name"] or _PAGE
    if not _NAME.fullmatch(name):
        raise Problem(404, "The viewer has no such file")
    encodings = {each.partition(";")[0].strip() for each in request.headers.get("accept-encoding", "").split(",")}
    file, encoding = _read(folder, name, encodings)
    if name == _PAGE:
        seen = index.seen_by(request.scope["caller"].scope)
        file = _with_first_image(file, seen, request.query_params.get("StudyInstanceUIDs", ""))
    headers = SECURITY_HEADERS | {
        "cache-control": _ASK_AGAIN if name in _UNHASHED else _YEAR,
        "etag": file.tag,
        "vary": "Accept-Encoding",
    }
    if encoding:
        headers["content-encoding"] = encoding
    if unchanged := not_modified(request, file.tag):
        unchanged.headers.update({key: headers[key] for key in ("cache-control", "vary")})
        return unchanged
    suffix = Path(name).suffix
    return Response(file.content, headers=headers, media_type=_TYPES[suffix])


def _read(folder: Path, name: str, encodings: set[str]) -> tuple[_File, str]:
    """Return a file, and how it is compressed."""
    for encoding, suffix in _COMPRESSED:
        if encoding in encodings and name not in _UNHASHED:
            try:
                return _cached(folder / f"{name}{suffix}"), encoding
            except FileNotFoundError:
                continue
    try:
        return (_load(folder / name) if name in _UNHASHED else _cached(folder / name)), ""
    except FileNotFoundError:
        if (folder / _PAGE).is_file():
            raise Problem(404, "The viewer has no such file; load its page again") from None
        raise Problem(503, MISSING) from None


def _with_first_image(page: _File, index: StudyReader, studies: str) -> _File:
    """Return the page with its first image; without it when the index does not answer, since the page will say so."""
    try:
        first = first_image(index, studies)
    except BackupSCPError:
        return page
    return _file(page.content.replace(_PLACE_OF_FIRST, first.encode()))


def _load(path: Path) -> _File:
    return _file(path.read_bytes())


def _file(content: bytes) -> _File:
    return _File(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


_cached = lru_cache(maxsize=_MOST_FILES)(_load)  # a name stands for one content
