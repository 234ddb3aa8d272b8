"""What every page of a share link has in common: layout, language, headers, and the page that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backup_scp.services.parcels import Words
from backup_scp.services.share_links import OpenedShare
from backup_scp.web.callers import WebCaller
from backup_scp.web.options import SHARE_PATH
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, environment_of, root_of
from backup_scp.web.pages.page_texts import DEFAULT, FOR_PATIENTS, PageTexts, chosen, languages, texts_in
from backup_scp.web.pages.static_files import address_of
from backup_scp.web.problems import Problem

_TEMPLATES = Path(__file__).parent / "templates"
SHARE_HEADERS = HEADERS | {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Robots-Tag": "noindex, nofollow, noarchive, noimageindex",
}
"""Headers of every answer below ``/share``: nothing is kept, indexed, or told to another site."""

_LANGUAGE = "lang"


@cache
def _environment() -> jinja2.Environment:
    return environment_of(_TEMPLATES)


def texts_of(request: Request) -> PageTexts:
    """Return the words in the language that was chosen, or that the browser wants."""
    name = request.query_params.get(_LANGUAGE, "")
    if name not in languages(FOR_PATIENTS):
        name = chosen(request.headers.get("accept-language", ""), FOR_PATIENTS)
    return texts_in(name, FOR_PATIENTS)


def parcel_words(request: Request) -> Words:
    """Return the words in files that are saved: in the same language, in English where there are none."""
    words = texts_of(request)
    site = texts_in(DEFAULT)
    return lambda name, /, **values: (words if name in words else site)(name, **values)


def address(request: Request, below: str = "", **query: object) -> str:
    """Return the address of a page of the same link, in the same language."""
    link = quote(request.path_params.get("link", ""), safe="")
    chosen_language = request.query_params.get(_LANGUAGE, "")
    if chosen_language in languages(FOR_PATIENTS):
        query[_LANGUAGE] = chosen_language
    return f"{root_of(request)}{SHARE_PATH}{link}{below}" + (f"?{urlencode(query)}" if query else "")


def shown(request: Request, frame: PageFrame, template: str, status: int = 200, **values: Any) -> Response:
    """Return a page."""
    root = root_of(request)
    content = (
        _environment()
        .get_template(template)
        .render(
            t=texts_of(request),
            static=lambda name: f"{root}{address_of(name)}",
            to=lambda below="", **query: address(request, below, **query),
            languages=[(words, _in(request, words.language)) for words in _all_texts()],
            token=frame.guard.token_of(request),
            **values,
        )
    )
    return HTMLResponse(content, status, SHARE_HEADERS)


def _all_texts() -> list[PageTexts]:
    return [texts_in(name, FOR_PATIENTS) for name in languages(FOR_PATIENTS)]


def _in(request: Request, language: str) -> str:
    """Return the address of this page in another language."""
    kept = {name: text for name, text in request.query_params.items() if name in {"page", "frame"}}
    return f"{root_of(request)}{quote(request.url.path)}?{urlencode(kept | {_LANGUAGE: language})}"


def problem_page(request: Request, frame: PageFrame, problem: Problem) -> Response:
    """Return the page that says why a request is not answered; who has not typed the PIN is asked for it."""
    is_navigation = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    if problem.status == 401 and is_navigation and request.method in {"GET", "HEAD"}:
        return RedirectResponse(address(request), 303, SHARE_HEADERS)
    response = shown(request, frame, "problem.html", int(problem.status), problem=f"problem.{int(problem.status)}")
    response.headers.update({name: text for name, text in problem.headers.items() if name in {"Allow", "Retry-After"}})
    return response


def opened_of(request: Request) -> OpenedShare:
    """Return what the caller has opened.

    Raises
    ------
    Problem
        401
    """
    caller: WebCaller = request.scope["caller"]
    if caller.opened is None:
        raise Problem(401, "The PIN is needed")
    return caller.opened


def with_headers(response: Response, more: Mapping[str, str] | None = None) -> Response:
    """Give an answer the headers of all pages of a share link."""
    for name in ("etag", "last-modified", "accept-ranges"):
        if name in response.headers:
            del response.headers[name]
    response.headers.update(SHARE_HEADERS | dict(more or {}))
    return response
