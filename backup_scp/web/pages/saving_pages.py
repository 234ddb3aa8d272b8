"""Save a study: each kind of file that a person may take along has an address."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.errors import InstanceRefused
from backup_scp.services.parcels import ParcelKind, Seen, Words
from backup_scp.services.permissions import Right
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, texts_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem
from backup_scp.web.streamed import StreamedResponse

_HEADERS = HEADERS | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def parcel_response(frame: PageFrame, kind: ParcelKind, study_instance_uid: str, words: Words) -> Response:
    """Send what a person takes along of a study that the frame may show, with these words.

    Raises
    ------
    Problem
        404: there is no such study, or it has nothing of this kind.
    """
    stores = frame.sources.stores
    if kind not in frame.sources.parcels.kinds:
        raise Problem(404, "This node cannot make such a file: docs/page.md says what to install")
    seen = Seen(stores.index, stores.files)
    parcel = frame.sources.parcels.make(kind, seen, study_instance_uid, words)
    if parcel is None:
        raise Problem(404, "There is no such study")
    headers = _HEADERS | {"Content-Disposition": f'attachment; filename="{parcel.name}"'}
    try:
        return StreamedResponse(parcel.parts, parcel.media_type, headers=headers)
    except InstanceRefused as error:
        raise Problem(404, str(error)) from error


def _saved(request: Request, frame: PageFrame, *, kind: ParcelKind) -> Response:
    return parcel_response(frame, kind, request.query_params.get("uid", ""), texts_of(request))


PAGES = tuple(
    PageRoute(f"/study/{kind.value}", "GET", Right.RETRIEVE, partial(_saved, kind=kind)) for kind in ParcelKind
)
