"""The names of objects in cloud storage: no patient data, and none is used for other bytes later.

::

    images/2026/11/30/<32 digits of the Data Set's SHA-256>-<SHA-256 of the object>.dcm.age
    manifests/2026/11/30/<time>-<SHA-256 of the object>.jsonl.gz.age
    index/<time>-<SHA-256>.sqlite.gz.age     contents/<time>-<SHA-256>.json.age
    settings/<time>-<SHA-256>.toml.age       README-<SHA-256>.txt

The date is that of the image's arrival: a day has one folder, which one request lists.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from datetime import UTC, datetime

from backup_scp.ports import StoredVersion

IMAGES, MANIFESTS, INDEX, CONTENTS, SETTINGS, CHECK = "images", "manifests", "index", "contents", "settings", "check"
SEALED = ".age"

_TIME = "%Y-%m-%dT%H%M%SZ"
_DIGESTS = re.compile(r".*/([0-9a-f]{32})-([0-9a-f]{64})\.[a-z0-9.]+")
_STAMPED = re.compile(r"[a-z/0-9]+/(\d{4}-\d\d-\d\dT\d{6}Z)-([0-9a-f]{64})\.[a-z0-9.]+")


def day_folder(held: StoredVersion) -> str:
    """Return the folder of all images that arrived on the same day (UTC)."""
    return f"{IMAGES}/{_day(held.received_at)}"


def image_name(held: StoredVersion, object_sha256: str, taken: Collection[str], *, is_sealed: bool) -> str:
    """Return a name for an image's object that is not taken: what is there may be damaged, and is not overwritten."""
    stem = f"{day_folder(held)}/{data_set_digits(held)}-{object_sha256}"
    suffix = f".dcm{SEALED if is_sealed else ''}"
    names = (f"{stem}.{number}{suffix}" if number > 1 else f"{stem}{suffix}" for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def data_set_digits(held: StoredVersion) -> str:
    """Return the part of the name that tells which Data Set it is."""
    return held.sha256[:32]


def digests_of(name: str) -> tuple[str, str] | None:
    """Return the digits of the Data Set and the digest of the object that a name holds; None for another name."""
    found = _DIGESTS.fullmatch(name)
    return (found[1], found[2]) if found else None


def stamped_name(kind: str, moment: datetime, object_sha256: str, suffix: str) -> str:
    """Return the name of a manifest, of an index or of what belongs to it, of a moment."""
    folder = f"{kind}/{_day(moment)}" if kind == MANIFESTS else kind
    return f"{folder}/{moment.astimezone(UTC).strftime(_TIME)}-{object_sha256}{suffix}"


def moment_of(name: str) -> datetime | None:
    """Return the moment in a name that ``stamped_name`` made; None for another name."""
    found = _STAMPED.fullmatch(name)
    try:
        return datetime.strptime(found[1], _TIME).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def digest_of_stamped(name: str) -> str:
    """Return the digest of the object that a name made by ``stamped_name`` holds; empty for another name."""
    found = _STAMPED.fullmatch(name)
    return found[2] if found else ""


def _day(moment: datetime) -> str:
    day = moment.astimezone(UTC)
    return f"{day.year:04}/{day.month:02}/{day.day:02}"
