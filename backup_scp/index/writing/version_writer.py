"""Add a version to the index: the work of one transaction, without its begin and end.

The order of locks on PostgreSQL is: SOP Instance UID (an advisory lock, so that two transactions never judge one
instance at the same time), the study table (so that no re-index runs between the lookup and the write), the study row,
the rest.  Every instance of a study changes the study row, so its lock protects the series rows too.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.search_keys import key_columns, key_values
from backup_scp.index.schema.stored_text import patient_key
from backup_scp.index.schema.tables import INSTANCE_ATTRIBUTES, SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from backup_scp.index.writing.attribute_merge import blank, merge
from backup_scp.index.writing.row_writer import SERIES_COUNTS, SERIES_ROW, STUDY_COUNTS, STUDY_ROW, RowWriter
from backup_scp.index.writing.study_cache import KnownStudy, StudyCache, StudyKey
from backup_scp.index.writing.version_rows import VersionRows, candidate
from backup_scp.index.writing.version_rule import Standing, decide
from backup_scp.ports import AddResult, Flag

Found = Mapping[str, Any]

_WITH_KEYS = tuple(attribute for attribute in INSTANCE_ATTRIBUTES if key_columns(attribute))
_NO_KEYS: Row = {column: key for attribute in _WITH_KEYS for column, key in key_values(attribute, "").items()}


class VersionWriter:
    """Adds one version: decides the content of its rows, and lets ``rows`` write them.

    Parameters
    ----------
    rows
        Reads and writes the rows, in a transaction that may write.
    known
        Cached study rows; ``remember`` puts them back.

    Attributes
    ----------
    is_out_of_order
        Whether the version came after a later version of its instance, so that the study must be re-indexed.
    """

    def __init__(self, rows: RowWriter, known: StudyCache) -> None:
        self._rows = rows
        self._known = known
        self._entered: tuple[StudyKey, KnownStudy] | None = None
        self.is_out_of_order = False

    def insert(self, facts: VersionRows) -> AddResult:
        """Add a version and update all counts."""
        uid = facts.key.sop_instance_uid
        self._rows.lock(uid)
        # What another clinic has is neither a version nor a clash: it would tell of that clinic.
        namesakes = [each for each in self._rows.find_instances(uid) if each["site"] == facts.study_key.site]
        for found in namesakes:
            if (found["study_instance_uid"], found["series_instance_uid"]) == facts.key[:2]:
                return self._further_version(facts, found)
        self._new_instance(facts, clash=self._came_later(facts, namesakes))
        return AddResult.NEW

    def remember(self) -> None:
        """Cache the study's rows for its next instance; call it after the commit."""
        if self._entered:
            self._known.put(*self._entered)
            self._entered = None

    # A new SOP Instance

    def _came_later(self, facts: VersionRows, namesakes: Sequence[Found]) -> bool:
        """Tell whether another instance had the UID earlier; flag those that got it later as a clash."""
        later = False
        for found in namesakes:
            versions = self._rows.versions_of(found["instance_id"])
            first = min(versions, key=lambda row: candidate(row).place)
            if candidate(first).place < facts.candidate.place:
                later = True
            else:
                self._restate(first, Standing(clash=True, until=first["answered_until"]))
        return later

    def _new_instance(self, facts: VersionRows, *, clash: bool) -> None:
        series_id = self._place(facts, instances=1, versions=1, size_bytes=facts.version["size_bytes"])
        instance_id = self._rows.insert_instance(instance_row(facts, series_id))
        self._insert_version(facts, instance_id, Standing(answering=True, clash=clash))

    def _insert_version(self, facts: VersionRows, instance_id: int, standing: Standing) -> None:
        flags = facts.flags | ({Flag.CLASH.value} if standing.clash else set())
        row = {
            **facts.version,
            "instance_id": instance_id,
            "answering": standing.answering,
            "answered_until": standing.until,
            "flags": ",".join(sorted(flags)),
            "patient_id": None if standing.answering else facts.study["patient_id"],
        }
        self._rows.insert_version(row)

    # A further version of a stored instance

    def _further_version(self, facts: VersionRows, found: Found) -> AddResult:
        versions = self._rows.versions_of(found["instance_id"])
        if any(version["sha256"] == facts.version["sha256"] for version in versions):
            return AddResult.HELD
        held = [candidate(version) for version in versions]
        self.is_out_of_order = facts.candidate.place < max(each.place for each in held)
        decision = decide(held, facts.candidate)
        for version in versions:
            is_superseded = decision.takes_over and version["answering"]
            self._restate(version, decision.held[version["location"]], found["patient_id"] if is_superseded else None)
        if decision.takes_over:
            self._take_over(facts, found, versions)
        else:
            self._rows.count_version(found["study_id"], facts.version["size_bytes"], facts.received_at)
        self._insert_version(facts, found["instance_id"], decision.standing)
        if decision.standing.reencoded:
            return AddResult.REENCODED
        return AddResult.CLASH if decision.standing.clash else AddResult.VERSION

    def _restate(self, version: Found, standing: Standing, named: str | None = None) -> None:
        """Write the rule's new result for a version, when the row differs.

        ``named`` is the patient that it names, when it no longer answers.
        """
        flags = {*filter(None, version["flags"].split(",")), *([Flag.CLASH.value] if standing.clash else [])}
        row: Row = {"flags": ",".join(sorted(flags)), "answered_until": standing.until}
        is_as_it_was = row == {column: version[column] for column in row}
        if named is not None:
            row |= {"answering": False, "patient_id": named}
        if named is not None or not is_as_it_was:
            self._rows.update_version(version["id"], row)

    def _take_over(self, facts: VersionRows, found: Found, versions: Sequence[Found]) -> None:
        """Replace the instance's attributes by those of its new version, which may name another patient."""
        size_bytes = facts.version["size_bytes"]
        moves = StudyKey(*(found[column] for column in StudyKey._fields)) != facts.study_key
        if moves:
            self._rows.lock_studies(facts.key.study_instance_uid)
            size_bytes += sum(version["size_bytes"] for version in versions)
        series_id = self._place(facts, instances=int(moves), versions=len(versions) * moves + 1, size_bytes=size_bytes)
        row = instance_row(facts, series_id)
        self._rows.update_instance(found["instance_id"], row)
        if moves:
            self._leave(found, len(versions), size_bytes - facts.version["size_bytes"])
        if row["sop_class_uid"] != found["sop_class_uid"] and self._entered:
            self._rows.collect(self._entered[1].row["id"], ())

    def _leave(self, found: Found, versions: int, size_bytes: int) -> None:
        """Subtract an instance from the rows that it left; delete rows that are empty then."""
        series = int(self._rows.leave_series(found["series_id"]))
        if not self._rows.leave_study(found["study_id"], series=series, versions=versions, size_bytes=size_bytes):
            self._rows.collect(found["study_id"], ())

    # Study and series

    def _place(self, facts: VersionRows, *, instances: int, versions: int, size_bytes: int) -> int:
        """Merge and count the version in its study and series rows; return the id of the series row."""
        known = self._known.pop(facts.study_key)
        while True:
            current = known or self._load(facts.study_key)
            series_row = self._series(current, facts)
            modality = series_row["modality"]
            says_more = merge(series_row, SERIES_ATTRIBUTES, facts.series, facts.order)
            series_row["number_of_series_related_instances"] += instances
            if self._save_study(current, facts, (instances, versions, size_bytes), new_series="id" not in series_row):
                break
            known = None  # another process changed the row
        was_new = self._save_series(current, series_row, facts, says_more=says_more)
        self._entered = (facts.study_key, current)
        if not was_new and series_row["modality"] != modality:
            self._rows.collect(current.row["id"], [facts.instance["sop_class_uid"]])
        return int(series_row["id"])

    def _load(self, key: StudyKey) -> KnownStudy:
        """Lock and read the study row; insert it when there is none."""
        while True:
            if found := self._rows.load_study(key):
                return KnownStudy(found)
            self._rows.insert_study(new_study_row(key))

    def _series(self, current: KnownStudy, facts: VersionRows) -> Row:
        uid = facts.key.series_instance_uid
        if row := current.series.get(uid):
            return row
        if current.row["number_of_study_related_series"] and (found := self._rows.load_series(current.row["id"], uid)):
            return found
        return {**blank(SERIES_ATTRIBUTES), "study_id": current.row["id"], "number_of_series_related_instances": 0}

    def _save_study(
        self, current: KnownStudy, facts: VersionRows, more: tuple[int, int, int], *, new_series: bool
    ) -> bool:
        """Write the study row; False when another transaction has changed it."""
        row = current.row
        says_more = merge(row, STUDY_ATTRIBUTES, facts.study, facts.order)
        if says_more:
            row["patient_key"] = patient_key(row)
        instances, versions, size_bytes = more
        row["number_of_study_related_series"] += new_series
        row["number_of_study_related_instances"] += instances
        row["version_count"] += versions
        row["size_bytes"] += size_bytes
        row["last_received_at"] = max(row["last_received_at"], facts.received_at)
        row["modalities_in_study"] = _with(row["modalities_in_study"], facts.series["modality"] if new_series else "")
        row["sop_classes_in_study"] = _with(row["sop_classes_in_study"], facts.instance["sop_class_uid"])
        known_revision = row["revision"]
        row["revision"] += 1
        columns = STUDY_ROW if says_more else STUDY_COUNTS
        return self._rows.update_study(row["id"], known_revision, _only(row, columns))

    def _save_series(self, current: KnownStudy, row: Row, facts: VersionRows, *, says_more: bool) -> bool:
        """Write the series row; True when it is a new one."""
        is_new = "id" not in row
        if is_new:
            row["id"] = self._rows.insert_series(row)
        else:
            columns = SERIES_ROW if says_more else SERIES_COUNTS
            self._rows.update_series(row["id"], _only(row, columns))
        current.series[facts.key.series_instance_uid] = row
        return is_new


def instance_row(facts: VersionRows, series_id: int) -> Row:
    """Return the instance row of a version."""
    row: Row = {"series_id": series_id, **facts.instance, **_NO_KEYS}
    for attribute in _WITH_KEYS:
        if text := facts.instance[attribute.column]:
            row |= key_values(attribute, text)
    return row


def new_study_row(key: StudyKey) -> Row:
    """Return an empty study row; the first instance merges its attributes into it."""
    row = {
        **blank(STUDY_ATTRIBUTES),
        **key._asdict(),
        **dict.fromkeys(("modalities_in_study", "sop_classes_in_study", "last_received_at"), ""),
        **dict.fromkeys(("number_of_study_related_series", "number_of_study_related_instances"), 0),
        **dict.fromkeys(("version_count", "size_bytes"), 0),
        "revision": secrets.randbits(48),
    }
    row["patient_key"] = patient_key(row)
    return row


def _only(row: Row, columns: tuple[str, ...]) -> Row:
    return {column: row[column] for column in columns}


def _with(joined: str, value: str) -> str:
    """Add a value to a sorted list in a text, unless it is there."""
    values = joined.split("\\") if joined else []
    return joined if not value or value in values else "\\".join(sorted([*values, value]))
