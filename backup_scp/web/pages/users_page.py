"""Users, for administrators: add, change, reset, disable, remove; and the audit."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.errors import InvalidSelection
from backup_scp.ports import AuditEvent, LinkKind, Role, User
from backup_scp.services.permissions import Right
from backup_scp.services.user_changes import Actor, UserChanges, roles_of
from backup_scp.web.pages.login_pages import actor_of, logins_of
from backup_scp.web.pages.page_frame import PageFrame, base_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_EVENTS = 100


def users_page(request: Request, frame: PageFrame) -> Response:
    """List the users, and what happened last."""
    return _page(request, frame)


def change(request: Request, frame: PageFrame) -> Response:
    """Do what a form asks for, and show the list again, with a link where one was made."""
    form: FormData = request.scope["form"]
    changes, by = UserChanges(logins_of(frame).accounts), actor_of(request)
    try:
        user, link = _done(changes, form, by)
    except InvalidSelection as error:
        return _page(request, frame, error=str(error))
    return _page(request, frame, done=user.name, link=f"{base_of(request)}{link}" if link else "")


def _done(changes: UserChanges, form: FormData, by: Actor) -> tuple[User, str]:
    """Change one user; return it, and the path of its link if one was made."""
    what, name = str(form.get("do", "")), str(form.get("name", ""))
    if what == "add":
        user = changes.add(name, _roles(form), by)
        return user, f"/link?token={changes.new_link(user)}"
    user = changes.found(name)
    if what == "role":
        changes.set_roles(user, _roles(form), by)
    elif what == "reset":
        return user, f"/link?token={changes.reset(user, by)}"
    elif what == "link":
        return user, f"/login/openid/link?token={changes.new_link(user, LinkKind.IDENTITY)}"
    elif what == "unlink":
        changes.unlink(user, by)
    elif what in {"disable", "enable"}:
        changes.set_disabled(user, by, is_disabled=what == "disable")
    elif what == "remove":
        changes.remove(user, by)
    else:
        raise Problem(400, "Choose what to do")
    return user, ""


def _roles(form: FormData) -> dict[str, Role]:
    sites = [site.strip() for site in str(form.get("sites", "")).split(",")]
    try:
        return roles_of(Role(str(form.get("role", ""))), list(filter(None, sites)))
    except ValueError:
        raise Problem(400, "Choose a role of the list") from None


def _page(request: Request, frame: PageFrame, error: str = "", done: str = "", link: str = "") -> Response:
    accounts = logins_of(frame).accounts
    events: list[AuditEvent] = accounts.events(_EVENTS)
    return frame.page(
        request,
        "users.html",
        400 if error else 200,
        users=accounts.users(),
        roles=list(Role),
        sites=sorted({remote.site for remote in frame.sources.remotes if remote.site}),
        events=events,
        error=error,
        done=done,
        link=link,
    )


PAGES = (
    PageRoute("/users", "GET", Right.USERS, users_page),
    PageRoute("/users", "POST", Right.USERS, change),
)
