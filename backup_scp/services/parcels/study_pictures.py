"""Make the pictures of a study, one after the other, and note what cannot be shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.parcels.parcel import Seen, Words
from backup_scp.services.renderable_frames import RenderableFrames, WantedPicture
from backup_scp.services.verified_files import VerifiedFile

MOST_FRAMES = 300
"""Of one image: a long run of an ultrasound or a catheter laboratory is for a viewer."""

_LONGEST_NUMBER = 6  # digits


class Picture(NamedTuple):
    """One frame as JPEG.

    Attributes
    ----------
    name
        ``SERIES-IMAGE``, and ``-FRAME`` of several: numbers that say nothing of the patient; each is there once.
    content
        The file.
    frame, frames
        The number of the frame, and how many the image has.
    attributes
        Of its Data Set, by keyword.
    """

    name: str
    content: bytes
    frame: int
    frames: int
    attributes: Mapping[str, str]


@dataclass
class StudyPictures:
    """The pictures of some images of a study.

    Attributes
    ----------
    made
        How many pictures were yielded.
    without
        How many objects have no picture: reports, documents, presentation states.
    cut
        Sentences on images with more frames than are made.
    refused
        Names of images that cannot be shown as a picture here.
    """

    seen: Seen
    words: Words
    made: int = 0
    without: int = 0
    cut: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _names: Counter[str] = field(default_factory=Counter)

    def of(self, held: Sequence[StoredVersion], wanted: WantedPicture, most_frames: int) -> Iterator[Picture]:
        """Yield the pictures.

        Raises
        ------
        Damaged, ArchiveUnavailable
            An image cannot be read.
        """
        for number, one in enumerate(held):
            with self.seen.files.open(one) as file:
                if number + 1 < len(held):
                    self.seen.files.announce(held[number + 1])
                yield from self._frames(file, wanted, most_frames)

    def _frames(self, file: VerifiedFile, wanted: WantedPicture, most_frames: int) -> Iterator[Picture]:
        uids = (file.transfer_syntax_uid, file.held.sop_class_uid, file.held.sop_instance_uid)
        attributes = SOPInstance.read(file.stream(), *uids).attributes
        if "Rows" not in attributes:
            self.without += 1
            return
        name = self._name(attributes)
        try:
            with RenderableFrames.of(file) as frames:
                listed = range(1, frames.count + 1) if most_frames > 1 else [frames.representative]
                if len(listed) > most_frames:
                    self.cut.append(self.words("parcel.cut", name=name, shown=most_frames, frames=frames.count))
                for number in listed[:most_frames]:
                    content = frames.rendered([number], "jpeg", wanted)
                    end = f"-{number:03}" if len(listed) > 1 else ""
                    self.made += 1
                    yield Picture(f"{name}{end}", content, number, frames.count, attributes)
        except InstanceRefused:
            self.refused.append(name)

    def _name(self, attributes: Mapping[str, str]) -> str:
        series, image = (_number(attributes.get(keyword, "")) for keyword in ("SeriesNumber", "InstanceNumber"))
        name = f"{series:03}-{image:04}"
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    @property
    def remarks(self) -> list[str]:
        """Sentences on what is left out."""
        found = list(self.cut)
        if self.without:
            found.append(self.words("parcel.without", number=self.without))
        if self.refused:
            found.append(self.words("parcel.refused", names=", ".join(self.refused)))
        return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER else 0
