"""The ASGI application: the gate that knows callers, the routes, and errors as problems."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from backup_scp.services.audit_reporter import AuditReporter
from backup_scp.services.permissions import Right
from backup_scp.web.access_gate import AccessGate
from backup_scp.web.callers import WebAccess, WebCaller
from backup_scp.web.dicomweb.capabilities import capabilities
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.health_answers import HealthAnswers
from backup_scp.web.options import BASE_PATH, SHARE_PATH, WebOptions
from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.pages.page_table import page_routes
from backup_scp.web.problems import problem_of, response_of
from backup_scp.web.request_audit import RequestAudit
from backup_scp.web.route import Route
from backup_scp.web.sharing.share_table import share_routes
from backup_scp.web.sharing.shared_frame import problem_page
from backup_scp.web.stores import Stores
from backup_scp.web.viewer.viewer_files import viewer_paths
from backup_scp.web.worker_threads import in_thread

Endpoint = Callable[[Request], Awaitable[Response]]


def application(
    stores: Stores,
    options: WebOptions,
    routes: Sequence[Route] = ROUTES,
    pages: PageSources | None = None,
    reporter: AuditReporter | None = None,
) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    stores
        The open archive and index.
    options
        Who may call.
    routes
        The resources below ``/dicom-web``.
    pages
        What the pages are made from; None for none.
    reporter
        Reports requests to the audit trail.
    """
    by_path: dict[str, list[Route]] = {"": [], "/": []}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    paths = [_path_route(path, own, routes, stores) for path, own in by_path.items()]
    frame = PageFrame(pages) if pages is not None else None

    def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if frame is not None and request.url.path.startswith(SHARE_PATH):
            return problem_page(request, frame, problem)
        is_page = frame is not None and not request.url.path.startswith(BASE_PATH)
        return frame.problem(request, problem) if frame is not None and is_page else response_of(problem)

    async def answer_http(request: Request, error: Exception) -> Response:
        return answer(request, error)

    own_pages = [*page_routes(frame), *share_routes(frame)] if frame is not None else []
    every = [*paths, *own_pages, *viewer_paths(answer, stores.index)]
    others = Starlette(routes=every, exception_handlers={HTTPException: answer_http})
    others.router.redirect_slashes = False  # its address would be the Host header's
    gate = AccessGate(
        RequestAudit(_FixedPaths(every, others), reporter or AuditReporter()),
        WebAccess(options, pages.logins, pages.shares) if pages is not None else WebAccess(options),
        lambda scope, problem: answer(Request(scope), problem),
    )
    return gate if frame is None else HealthAnswers(gate, frame.feed)


class _FixedPaths:
    """Serves resources without a UID in their path at once: finding their route takes as long as many a search.

    Parameters
    ----------
    routes
        All resources.
    others
        Serves the others, and whatever is 404 or 405.
    """

    def __init__(self, routes: Iterable[PathRoute], others: ASGIApp) -> None:
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            (method, route.path): route.endpoint
            for route in routes
            if "{" not in route.path
            for method in route.methods or ()
        }
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self._others(scope, receive, send)
        else:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)


def _path_route(path: str, own: Iterable[Route], every: Sequence[Route], stores: Stores) -> PathRoute:
    """Return the resource at one path, with all its methods, so that a 405 lists them in Allow."""
    handlers = {route.method: _guarded(route, stores) for route in own}
    below = [route for route in every if route.path == path or route.path.startswith(f"{path.rstrip('/')}/")]

    async def endpoint(request: Request) -> Response:
        try:
            if request.method == "OPTIONS":
                request.scope["caller"].require(Right.FIND)
                return capabilities(request, below)
            return await handlers["GET" if request.method == "HEAD" else request.method](request)
        except Exception as error:  # noqa: BLE001 - else Starlette would log a traceback, with values of a patient
            return response_of(problem_of(error))

    return PathRoute(f"{BASE_PATH}{path}", endpoint, methods=[*handlers, "OPTIONS"])


def _allowed(request: Request, route: Route, stores: Stores) -> Stores:
    """Return what the handler of a route may use for this caller: all that it gets."""
    caller: WebCaller = request.scope["caller"]
    caller.require(route.right)
    return stores.seen_by(caller.scope_for(route.right))


def _guarded(route: Route, stores: Stores) -> Endpoint:
    """Return the handler of a route for callers that may use it."""
    if inspect.iscoroutinefunction(route.handler):

        async def endpoint(request: Request) -> Response:
            seen = _allowed(request, route, stores)
            return await cast("Awaitable[Response]", route.handler(request, seen))

    else:

        async def endpoint(request: Request) -> Response:
            seen = _allowed(request, route, stores)
            return cast("Response", await in_thread(route.handler, request, seen))

    return endpoint
