"""Compute the location of a Data Set, and check whether a text is a location; without access to the disk.

A location is ``<2 hex>/<Study>/<Series>/<SOP Instance>.<12 hex of the Data Set's SHA-256>.dcm``, relative to the
archive.  The first two hex digits are those of the SHA-256 of the Study Instance UID: they spread studies over 256
folders.  A Data Set that two sites have sent has a file for each: in the name of the later one stand the digits of the
SHA-256 of digest and site.  An invalid UID (PS3.5 9.1) never becomes a name; ``x`` and 40 hex digits of its SHA-256
replace it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256 as _sha256

from backup_scp.dicom.uids import path_component
from backup_scp.ports import InstanceKey

LOCATION_LIMIT = 2 + 1 + 64 + 1 + 64 + 1 + 64 + 1 + 64 + len(".dcm")
"""Number of characters in the longest location."""

_NAME = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*|x[0-9a-f]{40}")
_FILE = re.compile(r"(?P<name>.+)\.(?:[0-9a-f]{12}|[0-9a-f]{64})\.dcm")


def location_of(key: InstanceKey, sha256: str, *, whole_digest: bool = False) -> str:
    """Return the location of a Data Set.

    Parameters
    ----------
    key
        Its three UIDs, valid or not.
    sha256
        64 hex digits of the Data Set's SHA-256.
    whole_digest
        Put all 64 digits into the name, because another Data Set has the same first 12.
    """
    study, series, instance = key
    digest = sha256 if whole_digest else sha256[:12]
    return f"{_folder(study, series)}/{path_component(instance)}.{digest}.dcm"


def digest_for(sha256: str, site: str) -> str:
    """Return the digest that names the file of a further site which has sent the same Data Set."""
    return _sha256(f"{sha256}\0{site}".encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=64)  # the images of a series follow one another
def _folder(study_uid: str, series_uid: str) -> str:
    study = path_component(study_uid)
    return f"{_spread(study)}/{study}/{path_component(series_uid)}"


def is_location(text: str) -> bool:
    """Tell whether ``location_of`` can return this text; no other text is used as a path."""
    if len(text) > LOCATION_LIMIT or text.count("/") != 3:
        return False
    spread, study, series, file = text.split("/")
    match = _FILE.fullmatch(file)
    if match is None or not all(map(_NAME.fullmatch, (study, series, match["name"]))):
        return False
    return spread == _spread(study)


def is_spread(name: str) -> bool:
    """Tell whether this is the name of one of the 256 folders."""
    return re.fullmatch("[0-9a-f]{2}", name) is not None


def quarantine_name(location: str, moment: datetime) -> str:
    """Return the new name of a damaged file: its location with the time in it."""
    return f"{location.removesuffix('.dcm')}.{moment.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.dcm"


def _spread(study: str) -> str:
    """Return the first two digits of the Study Instance UID's SHA-256; a replaced UID contains them."""
    return study[1:3] if study.startswith("x") else _digest(study)[:2]


def _digest(uid: str) -> str:
    return _sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()
