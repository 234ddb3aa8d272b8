"""All pages of share links, and the routes that serve them."""

from __future__ import annotations

from starlette.routing import Route as PathRoute

from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.page_table import page_routes
from backup_scp.web.sharing import pin_page, shared_pages
from backup_scp.web.sharing.shared_frame import problem_page

SHARE_PAGES: tuple[PageRoute, ...] = (*pin_page.PAGES, *shared_pages.PAGES)


def share_routes(frame: PageFrame) -> list[PathRoute]:
    """Return the routes of all pages of share links."""
    return page_routes(frame, SHARE_PAGES, lambda request, problem: problem_page(request, frame, problem))
