"""Entities and answers of stored instances, row by row: the other half of ``reference_matcher``.

- Keys above the level match, and are answered as of the entity's row: of each attribute the latest value that is not
  empty.
- A patient is answered as of the latest study that matches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, UNIQUE_KEY, Level
from tests.reference_matcher import Values, as_held, day, entity_matches

Key = tuple[str, ...]


class ReferenceArchive:
    """The entities of instances, given in the order of arrival, as text by keyword."""

    def __init__(self, instances: Iterable[Mapping[str, str]]) -> None:
        self._images: list[tuple[Key, Key, Values]] = []
        self._studies: dict[Key, Values] = {}
        self._series: dict[Key, Values] = {}
        for instance in instances:
            own = {a.keyword: as_held(a, instance.get(a.keyword, "")) for a in ATTRIBUTES if not a.computed}
            study = (own["StudyInstanceUID"], own["PatientID"], own["IssuerOfPatientID"])
            series = (*study, own["SeriesInstanceUID"])
            _merge(self._studies.setdefault(study, {}), own, Level.PATIENT, Level.STUDY)
            _merge(self._series.setdefault(series, {}), own, Level.SERIES)
            self._images.append((study, series, own))
        self._count()
        self.rows = {
            Level.PATIENT: list(self._studies.values()),
            Level.STUDY: list(self._studies.values()),
            Level.SERIES: [self._studies[key[:3]] | row for key, row in self._series.items()],
            Level.IMAGE: [own | self._studies[study] | self._series[series] for study, series, own in self._images],
        }

    def _count(self) -> None:
        for key, row in self._series.items():
            row["NumberOfSeriesRelatedInstances"] = str(sum(series == key for _, series, _ in self._images))
        for key, row in self._studies.items():
            series_rows = [each for of, each in self._series.items() if of[:3] == key]
            images = [own for study, _, own in self._images if study == key]
            row["NumberOfStudyRelatedSeries"] = str(len(series_rows))
            row["NumberOfStudyRelatedInstances"] = str(len(images))
            row["ModalitiesInStudy"] = "\\".join(sorted({each["Modality"] for each in series_rows} - {""}))
            row["SOPClassesInStudy"] = "\\".join(sorted({own["SOPClassUID"] for own in images}))
        for row in self._studies.values():
            theirs = [other for other in self._studies.values() if patient_of(other) == patient_of(row)]
            row["NumberOfPatientRelatedStudies"] = str(len(theirs))
            for what in ("Series", "Instances"):
                number = sum(int(other[f"NumberOfStudyRelated{what}"]) for other in theirs)
                row[f"NumberOfPatientRelated{what}"] = str(number)

    def answers(self, level: Level, root: Level, keys: Mapping[str, str], negotiated: Collection[str]) -> list[Values]:
        """Answer a query at a level of the model with this root; ``keys`` by keyword, empty for return keys."""
        keys = {k: v for k, v in keys.items() if max(BY_KEYWORD[k].level.depth, root.depth) <= level.depth}
        rows = [row for row in self.rows[level] if entity_matches(row, keys, negotiated)]
        if level is Level.PATIENT:
            rows = _patients(rows)
        elif level is not Level.IMAGE:  # without a Unique Key it is no entity to ask for
            rows = [row for row in rows if row[UNIQUE_KEY[level].keyword]]
        shown = {UNIQUE_KEY[each].keyword for each in Level if each.depth <= level.depth} | keys.keys()
        return [{keyword: row[keyword] for keyword in shown} for row in rows]


def _merge(row: Values, values: Values, *levels: Level) -> None:
    for attribute in ATTRIBUTES:
        if attribute.level in levels and not attribute.computed:
            row[attribute.keyword] = values[attribute.keyword] or row.get(attribute.keyword, "")


def _patients(studies: list[Values]) -> list[Values]:
    """Take each patient's latest study, of one day the one that came last."""
    latest: dict[Key, Values] = {}
    for row in studies:
        if row["PatientID"] or row["StudyInstanceUID"]:
            other = latest.get(patient_of(row), row)
            latest[patient_of(row)] = row if (day(row["StudyDate"]) or "") >= (day(other["StudyDate"]) or "") else other
    return list(latest.values())


def patient_of(study: Values) -> Key:
    """Identify a person; unidentified people are never merged (ADR 5)."""
    if study["PatientID"]:
        return study["PatientID"], study["IssuerOfPatientID"]
    if study["PatientName"]:
        return "", study["PatientName"], study["PatientBirthDate"]
    return "", "", study["PatientBirthDate"], study["StudyInstanceUID"]
