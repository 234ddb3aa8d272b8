"""The studies that were added to last: their rows, so that the next instance of a study need not read them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from backup_scp.index.schema.rows import Row

MOST_STUDIES = 256
MOST_SERIES = 256


class StudyKey(NamedTuple):
    """What makes two study rows one."""

    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    site: str


@dataclass(slots=True)
class KnownStudy:
    """A study row, and those of its series rows that were met, by Series Instance UID."""

    row: Row
    series: dict[str, Row] = field(default_factory=dict)


class StudyCache:
    """A bounded memory of rows, for many threads.

    ``pop`` removes the entry, so that one thread uses it at a time; call ``put`` after the commit, and not when the
    transaction has failed.  Another process may have changed the rows meanwhile: ``study.revision``
    tells, in the same UPDATE that counts the instance.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: OrderedDict[StudyKey, KnownStudy] = OrderedDict()

    def pop(self, key: StudyKey) -> KnownStudy | None:
        """Take a study out, if it is known."""
        with self._lock:
            return self._studies.pop(key, None)

    def put(self, key: StudyKey, study: KnownStudy) -> None:
        """Remember a study as it was committed."""
        if len(study.series) > MOST_SERIES:
            study.series.clear()
        with self._lock:
            self._studies[key] = study
            if len(self._studies) > MOST_STUDIES:
                self._studies.popitem(last=False)
