"""The study of a share link, as a patient reads it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import Self

from pydicom.uid import EncapsulatedPDFStorage

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Query, SingleValue
from backup_scp.ports import Match, StudyReader
from backup_scp.web.pages.search_page import StudyRow
from backup_scp.web.pages.study_search import SHOWN
from backup_scp.web.problems import Problem

PDF_CLASS = str(EncapsulatedPDFStorage)
_FEW = 6
_OF_IMAGE = tuple(
    BY_KEYWORD[keyword]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesNumber", "Modality",
                    "SeriesDescription", "BodyPartExamined", "InstanceNumber", "NumberOfFrames", "Rows")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SharedImage:
    """One picture: its SOP Instance UID, its number, and how many frames it has."""

    uid: str
    number: str
    frames: int


@dataclass
class SharedSeries:
    """One series.

    Attributes
    ----------
    uid, number, modality, description
        Of the series.
    pictures
        Its images, in their order.
    documents
        SOP Instance UIDs of its PDF documents.
    others
        How many instances have neither picture nor document.
    """

    uid: str
    number: str
    modality: str
    description: str
    pictures: list[SharedImage] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    others: int = 0

    @property
    def few(self) -> list[SharedImage]:
        """The pictures that stand for all of them."""
        step = max(1, len(self.pictures) // _FEW)
        return self.pictures[::step][:_FEW]

    def add(self, match: Match) -> None:
        """Add an instance."""
        uid, frames = match["SOPInstanceUID"], match["NumberOfFrames"]
        if match["SOPClassUID"] == PDF_CLASS:
            self.documents.append(uid)
        elif match["Rows"] not in {"", "0"}:
            number = int(frames) if frames.isdecimal() else 1
            self.pictures.append(SharedImage(uid, match["InstanceNumber"], max(1, number)))
        else:
            self.others += 1


@dataclass(frozen=True, slots=True)
class SharedStudy:
    """A study: its facts, and its series in their order."""

    facts: StudyRow
    series: list[SharedSeries]

    @classmethod
    def found(cls, index: StudyReader, uid: str) -> Self:
        """Find it.

        Raises
        ------
        Problem
            404
        """
        wanted = (Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(uid)),)
        with closing(index.search(Query(Level.STUDY, wanted, SHOWN))) as studies:
            facts = next((StudyRow(match) for match in studies), None)
        if facts is None:
            raise Problem(404, "There is no such study")
        series: dict[str, SharedSeries] = {}
        with closing(index.search(Query(Level.IMAGE, wanted, _OF_IMAGE))) as matches:
            for match in matches:
                own = match["SeriesInstanceUID"]
                description = match["SeriesDescription"] or match["BodyPartExamined"]
                if own not in series:
                    series[own] = SharedSeries(own, match["SeriesNumber"], match["Modality"], description)
                series[own].add(match)
        for one in series.values():
            one.pictures.sort(key=lambda image: place_of(image.number, image.uid))
        return cls(facts, sorted(series.values(), key=lambda one: place_of(one.number, one.uid)))


def place_of(number: str, uid: str) -> tuple[bool, int, str]:
    """Return where something with a number stands among others."""
    known = number.strip().isdecimal()
    return not known, int(number) if known else 0, uid
