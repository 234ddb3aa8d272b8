"""One study: its series with pictures, its history, and what one can do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Query, SingleValue
from backup_scp.ports import Arrival, ClinicPatient, VersionMatch
from backup_scp.services.permissions import Right
from backup_scp.web.pages.linked_studies import linked_studies
from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.search_page import StudyRow
from backup_scp.web.pages.study_search import SHOWN
from backup_scp.web.problems import Problem

_MOST_PICTURES = 12  # of one series
_MOST_EVENTS = 200
_SERIES = tuple(
    BY_KEYWORD[keyword]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "Modality",
                    "SeriesDescription", "BodyPartExamined", "InstanceNumber", "IssuerOfPatientID")
)  # fmt: skip


@dataclass
class SeriesRow:
    """One series.

    Attributes
    ----------
    uid, number, modality, description
        Of the series.
    images
        How many it has.
    pictures
        SOP Instance UIDs of the images to show.
    """

    uid: str
    number: str
    modality: str
    description: str
    images: int = 0
    pictures: list[str] = field(default_factory=list)

    @property
    def place(self) -> tuple[bool, int, str]:
        """Where it stands among the others."""
        known = self.number.strip().isdecimal()
        return not known, int(self.number) if known else 0, self.uid


@dataclass
class StudyHistory:
    """What happened to the images of a study.

    Attributes
    ----------
    series
        The series.
    came
        How many images came from whom, in which minute.
    flags
        How many versions have which flag.
    locations
        Where the answering versions are.
    older
        How many versions do not answer any more.
    size_bytes
        Of all versions.
    patients
        Whose it is: each clinic that has it has a patient of its own.
    """

    series: dict[str, SeriesRow] = field(default_factory=dict)
    came: Counter[tuple[datetime, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    locations: list[str] = field(default_factory=list)
    older: int = 0
    size_bytes: int = 0
    patients: dict[ClinicPatient, None] = field(default_factory=dict)

    def add(self, version: VersionMatch) -> None:
        """Count one version."""
        arrival, match = version.arrival, version.match
        self.came[arrival.received_at.replace(second=0, microsecond=0), sender(arrival)] += 1
        self.flags.update(version.flags)
        self.size_bytes += version.size_bytes
        if not version.answering:
            self.older += 1
            return
        self.locations.append(version.location)
        self.patients[ClinicPatient(arrival.site, match["IssuerOfPatientID"], match["PatientID"])] = None
        uid = match["SeriesInstanceUID"]
        description = match["SeriesDescription"] or match["BodyPartExamined"]
        row = self.series.setdefault(uid, SeriesRow(uid, match["SeriesNumber"], match["Modality"], description))
        row.images += 1
        if len(row.pictures) < _MOST_PICTURES:
            row.pictures.append(match["SOPInstanceUID"])

    @property
    def events(self) -> list[tuple[datetime, str, int]]:
        """When how many images came from whom, the latest first."""
        listed = sorted(((at, who, number) for (at, who), number in self.came.items()), reverse=True)
        return listed[:_MOST_EVENTS]


def study_page(request: Request, frame: PageFrame) -> Response:
    """Show a study."""
    uid = request.query_params.get("uid", "")
    if not uid or "\\" in uid:
        raise Problem(404, "There is no such study")
    index, records = frame.sources.stores.index, frame.sources.records
    wanted = (Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(uid)),)
    with closing(index.search(Query(Level.STUDY, wanted, SHOWN))) as matches:
        studies = [StudyRow(match) for match in matches]
    if not studies:
        raise Problem(404, "There is no such study")
    history = StudyHistory()
    with closing(index.search_versions(Query(Level.IMAGE, wanted, _SERIES))) as versions:
        for version in versions:
            history.add(version)
    verified = records.verified_at(history.locations)
    return frame.page(
        request,
        "study.html",
        uid=uid,
        studies=studies,
        history=history,
        kinds=frame.sources.parcels.kinds,
        series=sorted(history.series.values(), key=lambda row: row.place),
        copies=list(_copies(frame.sources.copies_of(history.locations), len(history.locations))),
        linked=linked_studies(request, frame.sources, history.patients),
        verified=len(verified),
        verified_at=min(verified.values(), default=None),
    )


def _copies(names_of: dict[str, set[str]], images: int) -> Iterator[tuple[str, int, int]]:
    """Yield each copy, how many images it has, and how many there are."""
    numbers = Counter(name for names in names_of.values() for name in names)
    for name in sorted(numbers):
        yield name, numbers[name], images


def sender(arrival: Arrival) -> str:
    """Return who sent an image, as ``status`` names it."""
    name = arrival.remote or arrival.calling_ae_title
    return " ".join(filter(None, (name or arrival.service, f"({arrival.address})" if arrival.address else "")))


def uids_of(given: Iterable[str]) -> list[str]:
    """Return Study Instance UIDs of a form, each once."""
    return [uid for uid in dict.fromkeys(given) if uid and "\\" not in uid]


PAGES = (PageRoute("/study", "GET", Right.FIND, study_page),)
