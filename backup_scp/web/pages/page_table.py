"""All pages, and the routes that serve them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute

from backup_scp.services.permissions import Right
from backup_scp.web.callers import WebCaller
from backup_scp.web.pages import (
    account_page,
    login_pages,
    passkey_pages,
    patient_pages,
    provider_pages,
    restore_pages,
    saving_pages,
    search_page,
    settings_pages,
    share_links_page,
    state_page,
    study_page,
    users_page,
)
from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.static_files import static_file
from backup_scp.web.problems import Problem, problem_of

PAGES: tuple[PageRoute, ...] = (
    *state_page.PAGES,
    *search_page.PAGES,
    *restore_pages.PAGES,
    *study_page.PAGES,
    *patient_pages.PAGES,
    *saving_pages.PAGES,
    *share_links_page.PAGES,
    *settings_pages.PAGES,
    *login_pages.PAGES,
    *account_page.PAGES,
    *passkey_pages.PAGES,
    *provider_pages.PAGES,
    *users_page.PAGES,
    PageRoute("/static/{name}", "GET", None, static_file),
)


Answer = Callable[[Request, Problem], Response]
"""Makes the page that says why a request is not answered."""


def page_routes(frame: PageFrame, pages: Iterable[PageRoute] = PAGES, problem: Answer | None = None) -> list[PathRoute]:
    """Return the routes of pages."""
    by_path: dict[str, dict[str, PageRoute]] = {}
    for page in pages:
        by_path.setdefault(page.path, {})[page.method] = page
    return [_path_route(path, own, frame, problem or frame.problem) for path, own in by_path.items()]


def _path_route(path: str, pages: dict[str, PageRoute], frame: PageFrame, problem: Answer) -> PathRoute:
    """Return the route of one path, with all its methods, so that a 405 lists them in Allow."""

    async def endpoint(request: Request) -> Response:
        try:
            return await _answer(pages["GET" if request.method == "HEAD" else request.method], request, frame)
        except Exception as error:  # noqa: BLE001 - else Starlette would log a traceback, with values of a patient
            return problem(request, problem_of(error))

    return PathRoute(path, endpoint, methods=list(pages))


async def _answer(page: PageRoute, request: Request, frame: PageFrame) -> Response:
    caller: WebCaller = request.scope["caller"]
    frame = frame.seen_by(caller.scope_for(page.right))
    if page.right is not None:
        caller.require(page.right)
    elif caller.lacks_second_factor and page.path in account_page.NOT_BEFORE:
        caller.require(Right.FIND)
    if page.method == "POST" and not page.is_of_program:
        request.scope["form"] = await frame.guard.read(request)
    if inspect.iscoroutinefunction(page.handler):
        handler = cast("Callable[[Request, PageFrame], Awaitable[Response]]", page.handler)
        return await handler(request, frame)
    return cast("Response", await run_in_threadpool(page.handler, request, frame))
