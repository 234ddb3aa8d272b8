"""Find the stored versions that a resource names, and open them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from starlette.requests import Request

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.errors import Damaged
from backup_scp.ports import StoredVersion
from backup_scp.services.verified_files import VerifiedFile
from backup_scp.web.problems import Problem
from backup_scp.web.route import base_of, require_uids
from backup_scp.web.stores import Stores

_KEYS = {
    "study": (Level.STUDY, "StudyInstanceUID"),
    "series": (Level.SERIES, "SeriesInstanceUID"),
    "instance": (Level.IMAGE, "SOPInstanceUID"),
}


def versions(request: Request, stores: Stores) -> list[StoredVersion]:
    """Return the answering versions of a study, series or instance, in series and instance order.

    Raises
    ------
    Problem
        404
    """
    return versions_of(stores, {name: request.path_params[name] for name in _KEYS if name in request.path_params})


def versions_of(stores: Stores, uids: dict[str, str]) -> list[StoredVersion]:
    """Return the same for UIDs by ``study``, ``series`` and ``instance``.

    Raises
    ------
    Problem
        404
    """
    level = [_KEYS[name][0] for name in uids][-1]
    conditions = tuple(Condition(BY_KEYWORD[_KEYS[name][1]], SingleValue(uid)) for name, uid in uids.items())
    held = stores.index.retrieve(Query(level, conditions))
    if not held:
        require_uids(uids)
        raise Problem(404, f"There is no such {list(uids)[-1]} here: a query says what there is")
    return held


def one_version(request: Request, stores: Stores) -> StoredVersion:
    """Return the answering version of an instance.

    Raises
    ------
    Problem
        404
    """
    return versions(request, stores)[0]


def opened(stores: Stores, held: StoredVersion) -> VerifiedFile:
    """Open a version.

    Raises
    ------
    Problem
        500: it is damaged, and nothing stands for it.
    """
    try:
        return stores.files.open(held)
    except Damaged as error:
        raise Problem(
            500, f"SOP Instance {held.sop_instance_uid} is damaged or missing here, and no copy has it: {error}"
        ) from error


def uri_of(request: Request, held: StoredVersion) -> str:
    """Return the URI of an instance."""
    return f"{base_of(request)}{path_of(held)}"


def path_of(held: StoredVersion) -> str:
    """Return the path of an instance below the base of the service."""
    return f"/studies/{held.study_instance_uid}/series/{held.series_instance_uid}/instances/{held.sop_instance_uid}"


def etag(held: Iterable[StoredVersion], representation: str) -> str:
    """Return a strong entity tag: it changes with every byte of what is stored, and with the representation."""
    digest = hashlib.sha256(representation.encode())
    for one in held:
        digest.update(one.sha256.encode())
    return f'"{digest.hexdigest()[:32]}"'
