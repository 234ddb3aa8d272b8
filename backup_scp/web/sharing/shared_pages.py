"""What a share link shows once it is opened: one study, its series, its images."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Query, SingleValue
from backup_scp.errors import InstanceRefused
from backup_scp.ports import ShareLink, StoredVersion
from backup_scp.services.logins import TooManyAttempts
from backup_scp.services.parcels import ParcelKind
from backup_scp.services.permissions import Right
from backup_scp.web.callers import WebCaller
from backup_scp.web.dicomweb.wado.documents import document_response
from backup_scp.web.dicomweb.wado.pictures import JPEG, picture
from backup_scp.web.dicomweb.wado.rendered import thumbnail_of
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest
from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.saving_pages import parcel_response
from backup_scp.web.problems import Problem
from backup_scp.web.sharing.shared_frame import opened_of, parcel_words, shown, with_headers
from backup_scp.web.sharing.shared_study import PDF_CLASS, SharedSeries, SharedStudy

_ON_A_PAGE = 24
_SMALL = (320, 320)


def study_page(request: Request, frame: PageFrame) -> Response:
    """Show the study: its facts, and pictures of each series."""
    link = _link(request)
    study = SharedStudy.found(frame.sources.stores.index, link.study_instance_uid)
    _note(request, frame, "study")
    return shown(request, frame, "study.html", study=study, link=link, kinds=_kinds(request, frame))


def series_page(request: Request, frame: PageFrame) -> Response:
    """Show all pictures of a series."""
    series = _series(request, frame)
    page = _number(request, "page", -(-len(series.pictures) // _ON_A_PAGE))
    _note(request, frame, series.uid)
    pictures = series.pictures[(page - 1) * _ON_A_PAGE : page * _ON_A_PAGE]
    has_more = len(series.pictures) > page * _ON_A_PAGE
    return shown(request, frame, "series.html", series=series, pictures=pictures, page=page, has_more=has_more,
                 first=(page - 1) * _ON_A_PAGE)  # fmt: skip


def image_page(request: Request, frame: PageFrame) -> Response:
    """Show one picture, as large as the screen, with the way to the next one."""
    series = _series(request, frame)
    image = next((one for one in series.pictures if one.uid == request.path_params["instance"]), None)
    if image is None:
        raise Problem(404, "There is no such image")
    _note(request, frame, series.uid)
    at, last = series.pictures.index(image), len(series.pictures) - 1
    return shown(
        request,
        frame,
        "image.html",
        series=series,
        image=image,
        number=at + 1,
        frame_number=_number(request, "frame", image.frames),
        before=series.pictures[at - 1] if at else None,
        after=series.pictures[at + 1] if at < last else None,
    )


def small_picture(request: Request, frame: PageFrame) -> Response:
    """Send a small picture of an image."""
    held = _held(request, frame)
    content = thumbnail_of(
        frame.sources.stores, [held], None, JPEG, RenderingRequest(viewport=_SMALL, is_thumbnail=True)
    )
    return with_headers(Response(content, media_type=JPEG.name))


def whole_picture(request: Request, frame: PageFrame) -> Response:
    """Send a picture of a frame, in its own size."""
    held = _held(request, frame)
    number = _number(request, "frame", 1 << 31)
    try:
        content = picture(frame.sources.stores, held, [number], JPEG, RenderingRequest())
    except InstanceRefused:
        raise Problem(404, "This is no image") from None
    return with_headers(Response(content, media_type=JPEG.name))


def document(request: Request, frame: PageFrame) -> Response:
    """Send a document in PDF, such as a report."""
    held = _held(request, frame)
    if held.sop_class_uid != PDF_CLASS:
        raise Problem(404, "This is no document")
    _note(request, frame, held.sop_instance_uid)
    disposition = {"Content-Disposition": 'inline; filename="document.pdf"'}
    return with_headers(document_response(request, frame.sources.stores, held), disposition)


def save(request: Request, frame: PageFrame, *, kind: ParcelKind) -> Response:
    """Send the study as a file to take along."""
    opened, shares = opened_of(request), frame.sources.shares
    caller: WebCaller = request.scope["caller"]
    try:
        if shares is not None and request.method == "GET":
            shares.note_save(opened, kind, caller.address)
    except TooManyAttempts as error:
        raise Problem(429, str(error), {"Retry-After": str(error.wait_s)}) from None
    return with_headers(parcel_response(frame, kind, opened.link.study_instance_uid, parcel_words(request)))


def _kinds(request: Request, frame: PageFrame) -> tuple[ParcelKind, ...]:
    """Return how the study may be saved."""
    caller: WebCaller = request.scope["caller"]
    return frame.sources.parcels.kinds if caller.may(Right.SAVE_BY_LINK) else ()


def _link(request: Request) -> ShareLink:
    return opened_of(request).link


def _series(request: Request, frame: PageFrame) -> SharedSeries:
    study = SharedStudy.found(frame.sources.stores.index, _link(request).study_instance_uid)
    series = next((one for one in study.series if one.uid == request.path_params["series"]), None)
    if series is None:
        raise Problem(404, "There is no such series")
    return series


def _held(request: Request, frame: PageFrame) -> StoredVersion:
    """Return the version that answers for an instance of the link's study; no other can be named."""
    uids = {"StudyInstanceUID": _link(request).study_instance_uid, "SOPInstanceUID": request.path_params["instance"]}
    conditions = tuple(Condition(BY_KEYWORD[name], SingleValue(uid)) for name, uid in uids.items())
    held = frame.sources.stores.index.retrieve(Query(Level.IMAGE, conditions))
    if not held:
        raise Problem(404, "There is no such image")
    return held[0]


def _note(request: Request, frame: PageFrame, what: str) -> None:
    caller: WebCaller = request.scope["caller"]
    if frame.sources.shares is not None:
        frame.sources.shares.note_look(opened_of(request), what, caller.address)


def _number(request: Request, name: str, last: int) -> int:
    """Return a number of the query, from 1 to the last."""
    text = request.query_params.get(name, "1")
    if not (text.isdecimal() and text.isascii() and len(text) < 10 and 1 <= int(text) <= max(1, last)):
        raise Problem(404, "There is no such page")
    return int(text)


def _route(path: str, handler: object) -> PageRoute:
    return PageRoute(f"/share/{{link}}{path}", "GET", Right.LOOK_BY_LINK, handler)  # type: ignore[arg-type]


PAGES = (
    _route("/study", study_page),
    _route("/series/{series}", series_page),
    _route("/series/{series}/image/{instance}", image_page),
    _route("/small/{instance}", small_picture),
    _route("/whole/{instance}", whole_picture),
    _route("/document/{instance}", document),
    *(
        PageRoute(f"/share/{{link}}/save/{kind.value}", "GET", Right.SAVE_BY_LINK, partial(save, kind=kind))
        for kind in ParcelKind
    ),
)
