"""Style sheet, scripts and icon of the pages: small files, held in memory, with their digest in their address."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.web.problems import Problem

FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


@lru_cache
def _content(name: str) -> tuple[bytes, str]:
    content = (FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]


@lru_cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in FOLDER.iterdir() if path.suffix in _TYPES)


def address_of(name: str) -> str:
    """Return the address of a file; another content has another address."""
    return f"/static/{name}?{_content(name)[1]}"


def static_file(request: Request, _frame: object) -> Response:
    """Send a file."""
    name = request.path_params["name"]
    if name not in _names():
        raise Problem(404, "There is no such file")
    content, digest = _content(name)
    headers = {
        "Cache-Control": _FOREVER if request.url.query == digest else "no-cache",
        "ETag": f'"{digest}"',
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])
