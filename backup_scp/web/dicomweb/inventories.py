"""The Inventory of all that is held: found and retrieved as a Non-Patient Instance (PS3.18 section 12, PS3.3 A.88)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from backup_scp.dicom.inventory import INVENTORY_STORAGE, LEVEL, Count, data_set, file_meta
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.media_types import DICOM, DICOM_JSON, JSON, MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route, base_of, require_uids
from backup_scp.web.stores import Stores

SEARCH_OFFERS = (Offer(DICOM_JSON), Offer(JSON))
OFFERS = (Offer(DICOM), Offer(MULTIPART, DICOM))

_PATH = "/inventories"
_UID_KEYS = ("SOPInstanceUID", "00080018")
_PARAMETERS = (*_UID_KEYS, "accept", "includefield", "limit", "offset", "fuzzymatching")
_CHUNK_BYTES = 1 << 18


def search(request: Request, stores: Stores) -> Response:
    """Answer with the Inventory of the present, or with the one that the request names (PS3.18 12.6).

    Raises
    ------
    Problem
        400, 406
    """
    offer = media_types.require(request, SEARCH_OFFERS)
    unknown = [name for name in request.query_params if name not in _PARAMETERS]
    if unknown:
        raise Problem(400, f"This resource takes the parameters {', '.join(_PARAMETERS)}")
    asked = next((request.query_params[name] for name in _UID_KEYS if name in request.query_params), "")
    uid = asked or stores.inventory.uid_now()
    at = stores.inventory.moment_of(uid)
    is_asked_for = request.query_params.get("limit") != "0" and request.query_params.get("offset", "0") == "0"
    if at is None or not is_asked_for:
        return Response("[]", media_type=offer.name)
    moment = at.strftime("%Y%m%d%H%M%S.%f")
    found = {
        "00080016": _one("UI", INVENTORY_STORAGE),
        "00080018": _one("UI", uid),
        "00080023": _one("DA", moment[:8]),
        "00080033": _one("TM", moment[8:]),
        "00080201": _one("SH", "+0000"),
        "00080400": {"vr": "SQ"},
        "00080403": _one("CS", LEVEL),
        "00081190": _one("UR", f"{base_of(request)}{_PATH}/{uid}"),
    }
    return Response(json.dumps([found]), media_type=offer.name)


def retrieve(request: Request, stores: Stores) -> Response:
    """Send an Inventory: it is made while it is sent, the same at each time (PS3.18 12.4).

    Raises
    ------
    Problem
        400, 404, 406
    """
    offer = media_types.require(request, OFFERS)
    uid = str(request.path_params["inventory"])
    at = stores.inventory.moment_of(uid)
    if at is None:
        require_uids(request.path_params)
        raise Problem(404, f"There is no such Inventory: GET {base_of(request)}{_PATH} names that of the present")
    count = Count()
    content = data_set(uid, at, stores.inventory.studies(at, count), count)
    if offer.name == DICOM:
        return StreamingResponse(_in_chunks(file_meta(uid), content), media_type=DICOM)
    writer = MultipartWriter(DICOM)
    before = writer.head(f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1") + file_meta(uid)
    return StreamingResponse(_in_chunks(before, content, writer), media_type=writer.content_type)


def _in_chunks(before: bytes, content: Iterator[bytes], writer: MultipartWriter | None = None) -> Iterator[bytes]:
    chunk = bytearray(before)
    for data in content:
        chunk += data
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if writer is not None:
        chunk += writer.end()
    yield bytes(chunk)


def _one(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


ROUTES = (
    Route(_PATH, "GET", "Search for Inventories", "12.6", Right.FIND, search, SEARCH_OFFERS, _PARAMETERS),
    Route(f"{_PATH}/{{inventory}}", "GET", "Retrieve Inventory", "12.4", Right.FIND, retrieve, OFFERS),
)
