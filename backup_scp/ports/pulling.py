"""The interface of another PACS whose images are fetched, and its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from backup_scp.dicom.file_meta import Heading
from backup_scp.ports.archive import InstanceKey
from backup_scp.ports.sites import SiteScope

T = TypeVar("T")


class Span(NamedTuple):
    """Study Dates from the first to the last one, both included, as YYYYMMDD; an empty one is open.

    Attributes
    ----------
    from_time, to_time
        Study Times on that one day, both included, as HHMMSS; empty for the whole day.
    """

    first: str = ""
    last: str = ""
    from_time: str = ""
    to_time: str = ""


class RemoteStudy(NamedTuple):
    """A study that another PACS lists.

    Attributes
    ----------
    date, time
        Its Study Date and Study Time, as they came.
    images
        How many images the PACS counts in it; None when it does not say.
    patient_id
        Its Patient ID; empty when the PACS does not say.
    """

    study_instance_uid: str
    date: str = ""
    time: str = ""
    images: int | None = None
    patient_id: str = ""


class RemoteSeries(NamedTuple):
    """A series that another PACS lists; ``images`` as in ``RemoteStudy``."""

    study_instance_uid: str
    series_instance_uid: str
    images: int | None = None


class RemoteImage(NamedTuple):
    """An image that another PACS lists; the SOP Class UID is empty when the PACS does not say it."""

    key: InstanceKey
    sop_class_uid: str = ""


class Answers(NamedTuple, Generic[T]):
    """The answers to one question.

    Attributes
    ----------
    found
        The answers, those that were to be kept.
    total
        How many came.
    cut
        Why they are not all, as the PACS says itself; empty when it says nothing of the kind.
    """

    found: list[T]
    total: int
    cut: str = ""


class Incoming(Protocol):
    """An image that arrives.  Call ``write`` for its Data Set, then ``accept`` or ``discard``."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the Data Set.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """

    def accept(self) -> None:
        """Store the image; on return it is durable.

        Raises
        ------
        InvalidDataSet
            It is another image than was said.
        ArchiveFull, ArchiveUnavailable, IndexUnavailable
        """

    def discard(self) -> None:
        """Drop what came; harmless after ``accept``."""


Begin = Callable[[Heading], Incoming]
"""Begins to receive an image."""

KeepStudy = Callable[[RemoteStudy], bool]
"""Tells whether a listed study is to be kept in memory."""


class PullSource(Protocol):
    """Another PACS.  A context manager, which may be entered again after it broke off.

    Each method raises ``DestinationUnavailable`` when the PACS is away or does not answer.

    Attributes
    ----------
    name
        For sentences.
    ae_title, address, site
        What is noted of the images that it gives: its AE title, its host, and the clinic of its settings.
    here
        Whose images count as here: those of other clinics do not, where the PACS keeps clinics apart.
    if_lost
        Ends a sentence about an image that it says it has sent, and that did not arrive.
    """

    name: str
    ae_title: str
    address: str
    site: str
    here: SiteScope

    @property
    def if_lost(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def studies(self, span: Span, keep: KeepStudy) -> Answers[RemoteStudy]:
        """List the studies of a span."""

    def series(self, study_instance_uid: str) -> Answers[RemoteSeries]:
        """List the series of a study."""

    def images(self, series: RemoteSeries) -> Answers[RemoteImage]:
        """List the images of a series."""

    def fetch_series(self, series: RemoteSeries, images: Sequence[RemoteImage], begin: Begin) -> str:
        """Bring a whole series here: through ``begin``, or by a C-MOVE to this node.

        Parameters
        ----------
        images
            What is known of its images; empty when they could not be listed.

        Returns
        -------
        str
            Why not all came, in a sentence; empty when the PACS says that all did.

        Raises
        ------
        InstanceUnconfirmed
            It broke off.
        ArchiveUnavailable, IndexUnavailable
            Raised by what ``begin`` returns.
        """

    def fetch_image(self, image: RemoteImage, begin: Begin) -> str:
        """Bring one image here; as ``fetch_series``."""
