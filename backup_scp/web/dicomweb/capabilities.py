"""Retrieve Capabilities: a WADL document of the resources, made from their table (PS3.18 8.9, Annex H)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import quoteattr

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.web import media_types
from backup_scp.web.media_types import Offer
from backup_scp.web.route import Route, base_of

WADL = Offer("application/vnd.sun.wadl+xml")
OFFERS = (WADL, Offer("application/xml"), Offer("text/xml"))


def capabilities(request: Request, routes: Iterable[Route]) -> Response:
    """Answer OPTIONS: describe the resource of the request and all below it.

    Raises
    ------
    Problem
        406
    """
    offer = media_types.require(request, OFFERS)
    return Response("".join(_document(base_of(request), routes)), media_type=offer.name)


def _document(base: str, routes: Iterable[Route]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<application xmlns="http://wadl.dev.java.net/2009/02">\n'
    yield f"<resources base={quoteattr(base)}>\n"
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.template, []).append(route)
    for path, methods in by_path.items():
        yield f"<resource path={quoteattr(path.lstrip('/'))}>\n"
        for route in methods:
            yield from _method(route)
        yield "</resource>\n"
    yield "</resources>\n</application>\n"


def _method(route: Route) -> Iterator[str]:
    yield f"<method name={quoteattr(route.method)} id={quoteattr(route.transaction.replace(' ', ''))}>\n<request>\n"
    if route.offers:
        yield f'<param name="Accept" style="header" default={quoteattr(str(route.offers[0]))}>'
        yield from (f"<option value={quoteattr(str(offer))}/>" for offer in route.offers)
        yield "</param>\n"
    for name in route.parameters:
        yield f'<param name={quoteattr(name)} style="query"/>\n'
    yield from (f"<representation mediaType={quoteattr(str(offer))}/>\n" for offer in route.content_types)
    yield '</request>\n<response status="200">\n'
    yield from (f"<representation mediaType={quoteattr(str(offer))}/>\n" for offer in route.offers)
    yield "</response>\n</method>\n"
