"""Cache the rows of the studies written last, so that the next instance of a study need not read them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from backup_scp.index.schema.rows import Row

MOST_STUDIES = 256
MOST_SERIES = 256


class StudyKey(NamedTuple):
    """The columns that identify a study row."""

    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    site: str


@dataclass(slots=True)
class KnownStudy:
    """A study row, and those of its series rows that were read, by Series Instance UID."""

    row: Row
    series: dict[str, Row] = field(default_factory=dict)


class StudyCache:
    """A cache of limited size; safe to share between threads.

    ``pop`` removes the entry, so that one thread uses it at a time; call ``put`` after the commit, and not when the
    transaction has failed.  Another process may have changed the rows meanwhile: the UPDATE that counts the instance
    checks ``study.revision``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: OrderedDict[StudyKey, KnownStudy] = OrderedDict()

    def pop(self, key: StudyKey) -> KnownStudy | None:
        """Remove and return a study; None when it is not cached."""
        with self._lock:
            return self._studies.pop(key, None)

    def put(self, key: StudyKey, study: KnownStudy) -> None:
        """Cache a study as it was committed."""
        if len(study.series) > MOST_SERIES:
            study.series.clear()
        with self._lock:
            self._studies[key] = study
            if len(self._studies) > MOST_STUDIES:
                self._studies.popitem(last=False)
