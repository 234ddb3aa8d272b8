"""Convert a version to the values that the index stores: attributes by table and column, and its arrival."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from backup_scp.dicom.attributes import Attribute
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.search_keys import stored_value
from backup_scp.index.schema.stored_text import stored_key, stored_long, timestamp
from backup_scp.index.schema.tables import INSTANCE_ATTRIBUTES, SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from backup_scp.index.writing.study_cache import StudyKey
from backup_scp.index.writing.version_rule import Candidate, Sender
from backup_scp.ports import IMPORT, Flag, InstanceKey, Version


def stored_instance_key(key: InstanceKey) -> InstanceKey:
    """Return the three UIDs as the index stores them."""
    return InstanceKey(*(stored_key(uid) for uid in key))


class VersionRows(NamedTuple):
    """One version, ready to be added."""

    key: InstanceKey
    study_key: StudyKey
    study: Mapping[str, str]
    series: Mapping[str, str]
    instance: Mapping[str, str]
    version: Row
    flags: frozenset[str]

    @classmethod
    def of(cls, version: Version) -> VersionRows:
        """Take the values of the tables from a version."""
        values = {**version.instance.attributes, **_uids(version.instance)}
        study = _of_study(*map(values.get, _STUDY_KEYWORDS))
        series = _of_series(*map(values.get, _SERIES_KEYWORDS))
        instance = _own(_OF_INSTANCE, values)
        site = stored_key(version.arrival.site)
        study_uid = study["study_instance_uid"]
        return cls(
            key=InstanceKey(study_uid, series["series_instance_uid"], instance["sop_instance_uid"]),
            study_key=StudyKey(study_uid, study["patient_id"], study["issuer_of_patient_id"], site),
            study=study,
            series=series,
            instance=instance,
            version=_version(version, site),
            flags=frozenset(map(str, version.flags)) if version.flags else _NO_FLAGS,
        )

    @property
    def received_at(self) -> str:
        """The time when it was received."""
        return str(self.version["received_at"])

    @property
    def order(self) -> str:
        """Its sort key in the order of arrival."""
        return str(self.version["ordered_at"] or self.version["received_at"])

    @property
    def candidate(self) -> Candidate:
        """The values that the rule of versions uses."""
        return candidate({**self.version, "flags": ",".join(self.flags)})


def candidate(row: Mapping[str, Any]) -> Candidate:
    """Take the values that the rule of versions uses from a version's row."""
    sender = Sender(row["remote"], row["site"], row["calling_ae_title"], row["service"] == IMPORT)
    order = row["ordered_at"] or row["received_at"]
    is_whole = Flag.TRUNCATED.value not in row["flags"].split(",")
    is_answering = row.get("answering", False)
    of = row["location"], sender, row["received_at"], is_answering, is_whole, row["sha256"], row["same_as"]
    return Candidate(order, *of)


def _uids(instance: SOPInstance) -> dict[str, str]:
    """Return the identity by keyword; it may come from the Command Set."""
    return {
        "SOPClassUID": instance.sop_class_uid,
        "SOPInstanceUID": instance.sop_instance_uid,
        "StudyInstanceUID": instance.study_instance_uid,
        "SeriesInstanceUID": instance.series_instance_uid,
    }


_NO_FLAGS: frozenset[str] = frozenset()
_SENDER_COLUMNS = ("service", "calling_ae_title", "called_ae_title", "address")
_STUDY_KEYWORDS = tuple(attribute.keyword for attribute in STUDY_ATTRIBUTES)
_SERIES_KEYWORDS = tuple(attribute.keyword for attribute in SERIES_ATTRIBUTES)


@lru_cache(maxsize=64)  # the images of a study or series repeat these values; callers do not modify the result
def _of_study(*values: str | None) -> dict[str, str]:
    return _own(_OF_STUDY, dict(zip(_STUDY_KEYWORDS, values, strict=True)))


@lru_cache(maxsize=64)
def _of_sender(*values: str) -> dict[str, str]:
    return dict(zip(_SENDER_COLUMNS, map(stored_long, values), strict=True))


@lru_cache(maxsize=64)
def _of_kind(sop_class_uid: str, transfer_syntax_uid: str) -> dict[str, str]:
    return {"sop_class_uid": stored_long(sop_class_uid), "transfer_syntax_uid": stored_long(transfer_syntax_uid)}


@lru_cache(maxsize=64)
def _of_series(*values: str | None) -> dict[str, str]:
    return _own(_OF_SERIES, dict(zip(_SERIES_KEYWORDS, values, strict=True)))


_Named = tuple[tuple[str, str, Attribute], ...]


def _named(attributes: tuple[Attribute, ...]) -> _Named:
    return tuple((attribute.column, attribute.keyword, attribute) for attribute in attributes)


_OF_STUDY, _OF_SERIES, _OF_INSTANCE = map(_named, (STUDY_ATTRIBUTES, SERIES_ATTRIBUTES, INSTANCE_ATTRIBUTES))


def _own(attributes: _Named, values: Mapping[str, str | None]) -> dict[str, str]:
    return {
        column: stored_value(attribute, text) if (text := values.get(keyword)) else ""
        for column, keyword, attribute in attributes
    }


def _version(version: Version, site: str) -> Row:
    arrival = version.arrival
    return {
        "sha256": version.sha256,
        "location": version.location,
        "size_bytes": version.size_bytes,
        "received_at": timestamp(arrival.received_at),
        **_of_sender(arrival.service, arrival.calling_ae_title, arrival.called_ae_title, arrival.address),
        **_of_kind(version.instance.sop_class_uid, version.instance.transfer_syntax_uid),
        "site": site,
        "remote": stored_key(arrival.remote) if arrival.remote else "",
        "same_as": stored_long(arrival.same_as) if arrival.same_as else "",
        "ordered_at": timestamp(arrival.ordered_at) if arrival.ordered_at else "",
        "verified_at": "",
        "damage": None,
    }
