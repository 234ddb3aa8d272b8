"""The matrix route x caller x clinic: every resource and page, everybody who may call, images of either clinic.

The rows are the routes that the running application has.  One that is not in ``RIGHTS`` fails, until somebody says here
what it needs.  Each cell is what ``services/permissions.py`` says of the caller:

- who may not is told so, in the same words for whatever it asks for;
- what a caller may not see is answered as what does not exist;
- a caller of the first clinic gets, byte for byte, the answers of a node that has no second one.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route as PathRoute
from starlette.testclient import TestClient

from backup_scp.ports import EVERY_SITE, SEES_ALL, SEES_NOTHING, Role, Session, SiteScope
from backup_scp.services.permissions import LINK_RIGHTS, CallerKind, Right, may, scope_with, user_may
from backup_scp.services.secret_tokens import digest_of
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.pages.page_table import PAGES
from backup_scp.web.sharing.share_table import SHARE_PAGES
from tests.samples import encode, replace
from tests.web.clinic_worlds import (
    ACCEPTED,
    ALL,
    LINK_SESSION,
    NORTH,
    NOW,
    NOWHERE,
    OF_NORTH,
    OF_SOUTH,
    OPTIONS,
    SOUTH,
    World,
    timeless,
    two_worlds,
    uids_of,
)

OF_DIMSE = {Right.ECHO, Right.MOVE, Right.COMMIT, Right.REPORT, Right.RECEIVE}
OPEN = "open to everybody"
OWN_SESSION = "shows a user its own account"
_D = BASE_PATH
_OF_INSTANCE = f"{_D}/studies/{{study}}/series/{{series}}/instances/{{instance}}"
_ENTITIES = (f"{_D}/studies/{{study}}", f"{_D}/studies/{{study}}/series/{{series}}", _OF_INSTANCE)
_SEARCHES = (
    f"{_D}/studies", f"{_D}/series", f"{_D}/instances", f"{_D}/studies/{{study}}/series",
    f"{_D}/studies/{{study}}/instances", f"{_D}/studies/{{study}}/series/{{series}}/instances",
)  # fmt: skip
_RETRIEVALS = (
    *_ENTITIES, *(f"{one}/{what}" for one in _ENTITIES for what in ("metadata", "rendered", "thumbnail")),
    f"{_OF_INSTANCE}/frames/{{frames}}", f"{_OF_INSTANCE}/frames/{{frames}}/rendered",
    f"{_OF_INSTANCE}/frames/{{frames}}/thumbnail", f"{_OF_INSTANCE}/bulkdata/{{path:path}}", f"{_D}/wado",
)  # fmt: skip
_STORES = (f"{_D}/studies", f"{_D}/studies/{{study}}", f"{_D}/commitment-requests/{{transaction}}")
_BY_RIGHT: dict[Right | str, dict[str, tuple[str, ...]]] = {
    Right.FIND: {
        "GET": (*_SEARCHES, f"{_D}/inventories", f"{_D}/inventories/{{inventory}}", "/studies", "/study"),
        "POST": ("/studies/seen",),
        "OPTIONS": (_D, f"{_D}/", *_SEARCHES, *_RETRIEVALS, *_STORES[1:], f"{_D}/inventories",
                    f"{_D}/inventories/{{inventory}}"),
    },
    Right.RETRIEVE: {
        "GET": (*_RETRIEVALS, "/study/dicom", "/study/pictures", "/study/document", "/viewer/{name:path}"),
    },
    Right.STORE: {"GET": (_STORES[2],), "POST": _STORES},
    Right.STATE: {"GET": ("/", "/events", "/metrics")},
    Right.RESTORE: {
        "GET": ("/restore", "/restore/new", "/restore/job", "/restore/events", "/restore/receipt"),
        "POST": ("/restore",),
    },
    Right.SHARE: {"GET": ("/shares", "/shares/new"), "POST": ("/shares",)},
    Right.LOOK_BY_LINK: {
        "GET": ("/share/{link}/study", "/share/{link}/series/{series}", "/share/{link}/small/{instance}",
                "/share/{link}/series/{series}/image/{instance}", "/share/{link}/whole/{instance}",
                "/share/{link}/document/{instance}"),
    },
    Right.SAVE_BY_LINK: {
        "GET": ("/share/{link}/save/dicom", "/share/{link}/save/pictures", "/share/{link}/save/document"),
    },
    Right.LINK: {"GET": ("/patients", "/patients/compare"), "POST": ("/patients",)},
    Right.SETTINGS: {
        "GET": ("/settings", "/settings/entry"),
        "POST": ("/settings/preview", "/settings/write", "/settings/try"),
    },
    Right.USERS: {"GET": ("/users",), "POST": ("/users",)},
    OWN_SESSION: {
        "GET": ("/account", "/account/codes"),
        "POST": ("/account/password", "/account/codes", "/account/codes/off", "/account/sessions",
                 "/account/recovery-codes", "/account/passkeys", "/account/passkeys/new", "/account/passkeys/remove",
                 "/account/openid"),
    },
    OPEN: {
        "GET": ("/static/{name}", "/viewer", "/login", "/login/code", "/login/passkey", "/link", "/share/{link}",
                "/login/openid", "/login/openid/callback", "/login/openid/link", "/login/openid/out"),
        "POST": ("/share/{link}", "/share/{link}/end",
                 "/login", "/login/code", "/login/passkey", "/login/code/passkey", "/logout", "/link",
                 "/login/openid/link", "/login/openid/ended"),
    },
}  # fmt: skip
RIGHTS = {
    (method, path): right
    for right, methods in _BY_RIGHT.items()
    for method, paths in methods.items()
    for path in dict.fromkeys(paths)
}
WITHOUT_END = {"/events", "/restore/events"}  # who may is answered until it leaves
HERE, TLS = WebOptions(), WebOptions(ca=Path("ca.pem"), trust_this_machine=False)
NO_CHANGE = {"Sec-Fetch-Mode": "cors"}  # else a browser is led to the login


@dataclass(frozen=True)
class Who:
    """A caller: how it comes, and what the table of rights says of it."""

    kind: CallerKind
    scope: SiteScope = SEES_ALL
    token: str = ""
    roles: Mapping[str, Role] | None = None

    def may(self, right: Right) -> bool:
        if self.kind is CallerKind.SHARE_LINK:
            return right in LINK_RIGHTS[True]
        return user_may(self.roles, right) if self.roles is not None else may(self.kind, right, self.scope)

    def scope_for(self, right: Right) -> SiteScope:
        return scope_with(self.roles, right) if self.roles is not None else self.scope

    def client(self, world: World) -> TestClient:
        if self.kind is CallerKind.THIS_MACHINE:
            return world.client(HERE, address="127.0.0.1")
        if self.kind is CallerKind.CERTIFICATE:
            return world.client(TLS, "https://127.0.0.1:8042")
        client = world.client(OPTIONS)
        if self.kind is CallerKind.SHARE_LINK:
            client.cookies.set("backup-scp-share", LINK_SESSION)
        if self.token:
            client.headers["authorization"] = f"Bearer {self.token}"
        if self.roles is not None:
            client.cookies.set("backup-scp", self.log_in(world))
        return client

    def log_in(self, world: World) -> str:
        """Begin a session, the same one on each node: then its pages are the same as well."""
        name = " ".join(f"{role} at {site}" for site, role in self.roles.items()) if self.roles else "nothing"
        known, token = world.accounts.credentials(name), name.replace(" ", "-")
        if known is None:
            user = world.accounts.add_user(name, self.roles or {}, NOW)
            world.accounts.begin_session(Session(digest_of(token), user.id, NOW, NOW))
        return token


def _users() -> Iterator[tuple[str, Who]]:
    places = {
        "at north": ("north",),
        "at south": ("south",),
        "at both": ("north", "south"),
        "everywhere": (EVERY_SITE,),
    }
    for role, (place, sites) in itertools.product(Role, places.items()):
        if role is not Role.ADMINISTER or sites == (EVERY_SITE,):
            yield f"{role} {place}", Who(CallerKind.USER, roles=dict.fromkeys(sites, role))
    yield "no role", Who(CallerKind.USER, roles={})
    yield "see at north, share at south", Who(CallerKind.USER, roles={"north": Role.SEE, "south": Role.SHARE})


CALLERS = {
    "nobody": Who(CallerKind.UNKNOWN_WEB, SEES_NOTHING),
    "this machine": Who(CallerKind.THIS_MACHINE),
    "certificate": Who(CallerKind.CERTIFICATE),
    "token": Who(CallerKind.TOKEN, token=ALL),
    "token of north": Who(CallerKind.TOKEN, SiteScope.of({"north"}), NORTH),
    "token of south": Who(CallerKind.TOKEN, SiteScope.of({"south"}), SOUTH),
    "share link": Who(CallerKind.SHARE_LINK, SiteScope.of({"north"})),
    **dict(_users()),
}
SITES = {"north": OF_NORTH, "south": OF_SOUTH}


_done: list[str] = []
_connect = sqlite3.connect


def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """Connect, and note each statement."""
    connection = _connect(*arguments, **options)
    connection.set_trace_callback(lambda text: _done.append(re.sub(r"'[^']*'|\d+(\.\d+)*", "?", text)))
    return connection


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Iterator[tuple[World, World]]:
    """Yield both nodes; whoever sees all has asked the first one for everything, so that it remembers much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        patch.setattr("backup_scp.web.pages.state_feed.PATIENCE_S", 60.0)
        with two_worlds(tmp_path_factory.mktemp("worlds"), patch) as (both, one):
            everybody = CALLERS["token"].client(both)
            for (method, path), ds in itertools.product(RIGHTS, SITES.values()):
                if method == "GET" and path not in WITHOUT_END:
                    everybody.get(filled(path, ds), params=query_of(path, ds))
            yield both, one


def filled(path: str, ds) -> str:
    return path.replace(":path", "").format_map(uids_of(ds))


def query_of(path: str, ds) -> dict[str, str]:
    """Name a study in the query, where a route takes it from there."""
    study, patient = ds.StudyInstanceUID, {"site": "south" if ds is OF_SOUTH else "north", "id": ds.PatientID}
    if ds is NOWHERE:
        patient = {"site": "south", "id": "P0"}
    return {
        f"{_D}/wado": {"requestType": "WADO", "studyUID": study, "seriesUID": ds.SeriesInstanceUID,
                       "objectUID": ds.SOPInstanceUID},
        "/restore/new": {"study": study}, "/viewer/{name:path}": {"StudyInstanceUIDs": study},
        "/shares/new": {"study": study},
        "/patients/compare": patient, "/restore/job": {"place": "restore-0"}, "/restore/events": {"place": "restore-0"},
        "/restore/receipt": {"place": "restore-0"},
    }.get(path, {"StudyInstanceUID": study} if path in _SEARCHES else {"uid": study})  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a caller sees of an answer, without the time and the separator of its parts."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, client: TestClient, method: str, path: str, ds, **more: Any) -> Answer:
        headers = NO_CHANGE | more.pop("headers", {})
        answer = client.request(method, filled(path, ds), params=query_of(path, ds), headers=headers, **more)
        kind = answer.headers.get("content-type", "")
        separator = kind.partition("boundary=")[2].strip('"') or "\0"
        seen = {name: text.replace(separator, "-") for name, text in answer.headers.items() if name != "date"}
        body = answer.content.replace(separator.encode(), b"-") if separator != "\0" else answer.content
        return cls(answer.status_code, tuple(seen.items()), timeless(body))

    @property
    def is_denied(self) -> bool:
        return self.status == 401 or (self.status == 403 and b"You may not" in self.body)

    def without_names_of(self, ds) -> Answer:
        """Leave out what a caller has asked for itself, and the length, which is that of these names."""
        names = [*uids_of(ds).values()][:3]
        body = self.body
        headers = [(name, text) for name, text in self.headers if name not in {"content-length", "etag"}]
        for name in names:
            body = re.sub(rb"\b" + re.escape(name.encode()) + rb"\b", b"-", body)
            headers = [(key, text.replace(name, "-")) for key, text in headers]
        return Answer(self.status, tuple(headers), body)


def rows(*methods: str) -> list[tuple[str, str, Right | str]]:
    return [(method, path, right) for (method, path), right in RIGHTS.items() if method in methods]


# ------------------------------------------------------------------------------------------------------------- the rows


def test_every_route_of_the_application_is_listed(worlds):
    client: Any = worlds[0].client()
    app = client.app._app  # behind the answers about health, which need no right
    routes = [route for route in app._app._app._others.routes if isinstance(route, PathRoute)]
    assert len(routes) == len(app._app._app._others.routes)
    served = {(method, route.path) for route in routes for method in route.methods or ()}
    missing = {(method, path) for method, path in served if method != "HEAD"} ^ set(RIGHTS)
    missing -= {("OPTIONS", path) for path in (_STORES[0], _D)}
    assert missing == set(), "say in RIGHTS what it needs"
    assert {(method, path) for method, path in served if method == "HEAD"} == {
        ("HEAD", path) for method, path in served if method == "GET"
    }


def test_the_tables_of_routes_say_the_same():
    tables = {(route.method, f"{_D}{route.path}"): route.right for route in ROUTES}
    pages = {(page.method, page.path): page.right for page in (*PAGES, *SHARE_PAGES)}
    assert {key: RIGHTS[key] for key in tables} == tables
    assert {key: right if isinstance(right := RIGHTS[key], Right) else None for key in pages} == pages


def test_there_is_a_row_for_each_right_and_a_caller_of_each_kind():
    assert set(_BY_RIGHT) >= set(Right) - OF_DIMSE
    of_dimse = {CallerKind.CONFIGURED_AE, CallerKind.UNKNOWN_AE, CallerKind.REFUSED_AE}
    assert {who.kind for who in CALLERS.values()} == set(CallerKind) - of_dimse


EXPECTED = {  # what each role opens; everything else is denied
    "no role": set(),
    "see at north": {Right.FIND, Right.RETRIEVE},
    "restore at north": {Right.FIND, Right.RETRIEVE, Right.RESTORE},
    "share at north": {Right.FIND, Right.RETRIEVE, Right.RESTORE, Right.SHARE},
    "share at both": {Right.FIND, Right.RETRIEVE, Right.RESTORE, Right.SHARE, Right.LINK},
    "see everywhere": {Right.FIND, Right.RETRIEVE, Right.STATE},
    "restore everywhere": {Right.FIND, Right.RETRIEVE, Right.STATE, Right.RESTORE},
    "share everywhere": {Right.FIND, Right.RETRIEVE, Right.STATE, Right.RESTORE, Right.SHARE, Right.LINK},
    "administer everywhere": set(Right) - LINK_RIGHTS[True] - OF_DIMSE,
    "share link": LINK_RIGHTS[True],
}


def test_the_table_of_rights_gives_each_role_this():
    assert {name: {right for right in Right if CALLERS[name].may(right)} for name in EXPECTED} == EXPECTED


# ------------------------------------------------------------------------------------------------------------ the cells


@pytest.mark.parametrize("name", CALLERS)
def test_who_may_not_is_told_so_whatever_it_asks_for(worlds, name):
    who, client = CALLERS[name], CALLERS[name].client(worlds[0])
    for method, path, right in rows("GET", "POST", "OPTIONS"):
        if not isinstance(right, Right) or (path in WITHOUT_END and who.may(right)):
            continue
        answers = [Answer.of(client, method, path, ds).without_names_of(ds) for ds in (OF_NORTH, OF_SOUTH, NOWHERE)]
        assert {answer.is_denied for answer in answers} == {not who.may(right)}, (method, path)
        if not who.may(right):
            assert answers[0] == answers[1] == answers[2], (method, path)
            is_stranger = who.kind in {CallerKind.UNKNOWN_WEB, CallerKind.SHARE_LINK} or right in LINK_RIGHTS[True]
            assert {answer.status for answer in answers} == {401 if is_stranger else 403}
    for method, path, right in rows("GET"):
        if right == OWN_SESSION:
            assert (Answer.of(client, method, path, NOWHERE).status == 200) == (who.roles is not None), path


@pytest.mark.parametrize("name", CALLERS)
def test_what_one_may_not_see_is_answered_as_what_is_not_there(worlds, name):
    """And what one may see is answered otherwise."""
    who, client = CALLERS[name], CALLERS[name].client(worlds[0])
    silent = []
    for method, path, right in rows("GET"):
        if not isinstance(right, Right) or not who.may(right) or path in WITHOUT_END:
            continue
        for site, ds in SITES.items():
            differs = any(
                len({Answer.of(client, method, path, one, headers={"accept": accept}).without_names_of(one)
                     for one in (ds, NOWHERE)}) > 1
                for accept in ACCEPTED
            )  # fmt: skip
            if not who.scope_for(right).holds(site):
                assert not differs, (path, site)
            elif not differs:
                silent.append(path)
    assert set(silent) <= MEANS_NOTHING


MEANS_NOTHING = {
    "/", "/metrics", "/studies", "/restore", "/restore/job", "/restore/receipt", "/patients", "/users", "/settings",
    "/settings/entry", f"{_D}/inventories", f"{_D}/inventories/{{inventory}}", _STORES[2],
    f"{_OF_INSTANCE}/bulkdata/{{path:path}}", "/viewer/{name:path}", "/shares", "/share/{link}/study",
    "/share/{link}/document/{instance}", "/share/{link}/save/dicom", "/share/{link}/save/pictures",
    "/share/{link}/save/document",
}  # fmt: skip
"""Routes whose answer does not depend on the study that is asked for; the viewer's page does where it is built."""


OF_NORTH_ALONE = [name for name, who in CALLERS.items() if who.scope_for(Right.FIND) == SiteScope.of({"north"})]


def _ways(tag: str) -> list[tuple[str, dict[str, str]]]:
    """Return the ways to ask, for whoever has an answer already, and knows its tag."""
    return [
        *(("GET", {}), ("HEAD", {}), ("GET", {"range": "bytes=0-9"}), ("GET", {"if-none-match": tag})),
        *(("GET", {"if-none-match": "*"}), ("GET", {"if-range": tag, "range": "bytes=0-9"})),
        ("GET", {"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    ]


@pytest.mark.parametrize("name", OF_NORTH_ALONE)
def test_who_sees_one_clinic_gets_the_answers_of_a_node_that_has_no_other(worlds, name):
    """Also to HEAD, to parts, and to whoever has an answer already."""
    who = CALLERS[name]
    both, one = (who.client(world) for world in worlds)
    everybody = CALLERS["token"].client(worlds[0])
    for method, path, right in rows("GET"):
        if path in WITHOUT_END or not isinstance(right, Right):
            continue
        for ds in (OF_NORTH, OF_SOUTH, NOWHERE):
            tag = dict(Answer.of(everybody, method, path, ds).headers).get("etag", '"none"')
            for asked, headers in _ways(tag) if name == "token of north" else [("GET", {})]:
                answers = [Answer.of(client, asked, path, ds, headers=headers) for client in (both, one)]
                assert answers[0] == answers[1], (asked, path, headers)


def test_a_restore_of_another_clinic_cannot_be_watched(worlds):
    for name in OF_NORTH_ALONE:
        who = CALLERS[name]
        if who.may(Right.RESTORE):
            both, one = (Answer.of(who.client(world), "GET", "/restore/events", NOWHERE) for world in worlds)
            assert (both.status, both) == (404, one)


def test_what_another_clinic_has_changes_nothing_about_storing(tmp_path, monkeypatch):
    """The same bytes, the same UID with others: as if nobody had them."""
    with two_worlds(tmp_path, monkeypatch) as worlds:
        _store(worlds)


def _store(worlds: tuple[World, World]) -> None:
    for ds in (OF_SOUTH, replace(deepcopy(OF_SOUTH), PatientComments="another"), NOWHERE):
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + encode(ds).file_bytes() + b"\r\n--b--\r\n"
        sent = {"content-type": 'multipart/related; type="application/dicom"; boundary=b'}
        for _ in range(2):
            both, one = (
                Answer.of(CALLERS["token of north"].client(world), "POST", _STORES[0], ds, content=body, headers=sent)
                for world in worlds
            )
            assert (both.status, both) == (200, one)


@pytest.fixture
def work(monkeypatch) -> list[str]:
    """What the nodes do: the statements of their indexes, without values, and the files that they open."""
    opened = Path.open

    def noted(path: Path, *arguments: Any, **named: Any) -> Any:
        _done.append(path.suffix)
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", noted)
    return _done


@pytest.mark.parametrize("name", OF_NORTH_ALONE)
def test_what_one_may_not_see_is_as_much_work_as_what_is_not_there(worlds, name, work):
    """So that nobody learns of it by a clock."""
    who, client = CALLERS[name], CALLERS[name].client(worlds[0])
    traced = 0
    for method, path, right in rows("GET"):
        if not isinstance(right, Right) or not who.may(right) or path in WITHOUT_END:
            continue
        needed = []
        Answer.of(client, method, path, NOWHERE)  # the first look of a link is in the audit
        for ds in (OF_SOUTH, NOWHERE):
            work.clear()
            Answer.of(client, method, path, ds)
            needed.append(list(work))
        assert needed[0] == needed[1], path
        traced += len(needed[0])
    assert traced > (10 if who.kind is CallerKind.SHARE_LINK else 2 * len(_RETRIEVALS))
