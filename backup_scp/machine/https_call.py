"""Call a server by HTTPS: one request, no redirection, an answer of limited size within limited time."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backup_scp.machine.addresses import is_loopback

_PART = 1 << 16


class CallFailed(Exception):  # noqa: N818 - it says what happened
    """There was no answer; the text says why, without the URL."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes
    ----------
    status
        Of HTTP.
    headers
        Their values, by names in lower case.
    body
        Its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: it would ask another server than the settings name."""

    def redirect_request(self, *_: Any) -> None:
        return None


def call(
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    ca: Path | None = None,
    timeout_s: float = 30.0,
    most_bytes: int = 1 << 20,
) -> Answer:
    """Send one request, by POST when it has a body, and return the answer, whatever its status.

    Parameters
    ----------
    ca
        File of the CA that the server's certificate must be of; None for those that this computer trusts.
    timeout_s
        Limit for connecting, for each wait for bytes, and for the whole body.
    most_bytes
        Limit of the body.

    Raises
    ------
    CallFailed
    """
    until = time.monotonic() + timeout_s
    request = urllib.request.Request(url, body, {"User-Agent": "backup-scp", **(headers or {})})  # noqa: S310 - settings
    try:
        opener = _opener(url, ca)
        try:
            response = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            named = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status or 0, named, _body(response, until, most_bytes))
    except urllib.error.URLError as error:
        raise CallFailed(_reason(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallFailed(_reason(error)) from None


def _opener(url: str, ca: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy leads to this computer
    return urllib.request.build_opener(*handlers)


def _body(response: Any, until: float, most_bytes: int) -> bytes:
    parts, size = [], 0
    while part := response.read1(_PART):
        size += len(part)
        if size > most_bytes:
            raise CallFailed(f"its answer has more than {most_bytes} bytes")
        if time.monotonic() > until:
            raise CallFailed("its answer takes too long")
        parts.append(part)
    return b"".join(parts)


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted: name its CA in ca"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
