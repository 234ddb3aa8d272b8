"""Storage Commitment over the web: request it, and ask for its result (PS3.18 section 13).

The node reads the images back from the disk, as for an N-ACTION (docs/adr/0016).
"""

from __future__ import annotations

from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.errors import DuplicateTransaction
from backup_scp.machine import clock
from backup_scp.ports import Commitment, CommitmentRequest, Requester
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.dicomweb.referenced_instances import read_references, studies
from backup_scp.web.dicomweb.request_body import LIMITS, require_plain, whole_body
from backup_scp.web.dicomweb.response_module import OFFERS, ModelElement, encoded, failure_reason, reference, sequence
from backup_scp.web.media_types import DICOM_JSON, JSON, Offer
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route, require_uids
from backup_scp.web.stores import Stores

CONTENT_TYPES = (Offer(DICOM_JSON), Offer(JSON))
MOST_BYTES = 4 << 20
RETRY_AFTER_S = 2

_PATH = "/commitment-requests/{transaction}"


async def request_commitment(request: Request, stores: Stores) -> Response:
    """Store a request; when it is answered, it is durable, and its result will follow (PS3.18 13.4).

    Raises
    ------
    Problem
        400, 406, 408, 409 (the Transaction UID was used before), 413, 415
    IndexUnavailable, ResourceLimitation
        Try again later.
    """
    media_types.require(request, OFFERS)
    transaction_uid = _transaction(request)
    require_plain(request)
    if not request.headers.get("content-type") or media_types.parse_one(request.headers["content-type"]).name not in (
        DICOM_JSON,
        JSON,
    ):
        raise Problem(415, f"Send the request as {DICOM_JSON}")
    references = await run_in_threadpool(read_references, await whole_body(request, LIMITS, MOST_BYTES))
    caller = request.scope["caller"]
    requester = Requester(str(caller.scope), "", caller.address)
    asked = CommitmentRequest(transaction_uid, references, requester, clock.now())
    try:
        await run_in_threadpool(stores.commitments.enter, asked)
    except DuplicateTransaction:
        raise Problem(409, "This Transaction UID was used before: use a new one, or ask for its result") from None
    return _later()


def check_result(request: Request, stores: Stores) -> Response:
    """Return the result of a request, or 202 while it is not known (PS3.18 13.5).

    Raises
    ------
    Problem
        400, 404, 406
    """
    offer = media_types.require(request, OFFERS)
    found = stores.commitments.find_request(_transaction(request), request.scope["caller"].scope)
    if found is None:
        raise Problem(404, "There is no request with this Transaction UID; results are kept for 30 days")
    if not found.results:
        return _later()
    return Response(encoded(_module(found), offer), media_type=offer.name)


def _later() -> Response:
    return Response(status_code=202, headers={"Retry-After": str(RETRY_AFTER_S)})


def _transaction(request: Request) -> str:
    require_uids(request.path_params)
    return str(request.path_params["transaction"])


def _module(found: Commitment) -> Iterator[ModelElement]:
    """Yield the Storage Commitment Response Module (PS3.18 J.2): instances as the request listed them."""
    results = list(zip(found.request.references, found.results, strict=True))
    alone = [each for each in results if not each[0].study_instance_uid]
    if committed := [reference(*each[:2]) for each, reason in alone if reason is None]:
        yield sequence("ReferencedSOPSequence", committed)
    if failed := [[*reference(*each[:2]), failure_reason(reason)] for each, reason in alone if reason is not None]:
        yield sequence("FailedSOPSequence", failed)
    by_study = [each for each in results if each[0].study_instance_uid]
    if committed_by_study := [each for each in by_study if each[1] is None]:
        yield studies("ReferencedStudySequence", committed_by_study)
    if failed_by_study := [each for each in by_study if each[1] is not None]:
        yield studies("FailedStudySequence", failed_by_study)


ROUTES = (
    Route(
        _PATH,
        "POST",
        "Request Storage Commitment",
        "13.4",
        Right.STORE,
        request_commitment,
        OFFERS,
        content_types=CONTENT_TYPES,
    ),
    Route(_PATH, "GET", "Check Storage Commitment", "13.5", Right.STORE, check_result, OFFERS),
)
