"""Store the parts of a request that are DICOM files (PS3.10), each through the one way in."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from backup_scp.dicom.part10 import read_heading
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import AnotherStudy, BackupSCPError, NotDICOM
from backup_scp.machine import clock
from backup_scp.ports import STOW, Arrival, Heading, StagedFile
from backup_scp.services.ingest import Ingest
from backup_scp.web.dicomweb.stow.store_result import RequestedImage, StoreResult
from backup_scp.web.media_types import DICOM, parse_one
from backup_scp.web.problems import Problem

_HEAD_BYTES = 1 << 18  # of a file, kept until its Heading is read: it has File Meta and the UIDs of the Data Set


class ImageKeeper:
    """Stores what was staged, and records what became of it.

    Parameters
    ----------
    ingest
        The one way in.
    address
        The network address of the caller.
    study
        The study of the resource; empty for any.
    result
        Gets what became of each image.
    site
        The clinic of the caller.
    """

    def __init__(self, ingest: Ingest, address: str, study: str, result: StoreResult, site: str = "") -> None:
        self._ingest = ingest
        self._address = address
        self._study = study
        self._site = site
        self.result = result

    def begin(self, heading: Heading) -> StagedFile:
        """Open a staged file."""
        return self._ingest.begin(heading)

    def keep(self, staged: StagedFile) -> None:
        """Store a Data Set whose last byte was written; success is durable (PS3.18 10.5.2)."""
        heading = staged.heading
        image = RequestedImage(heading.sop_class_uid, heading.sop_instance_uid)
        try:
            try:
                image = _image(staged)
                self._require_study(image)
            except BaseException:
                staged.discard()
                raise
            self._ingest.accept(staged, Arrival(clock.now(), STOW, address=self._address, site=self._site))
        except BackupSCPError as error:
            self.result.add_failure(image, error)
        else:
            self.result.stored.append(image)

    def _require_study(self, image: RequestedImage) -> None:
        if self._study and image.study_instance_uid != self._study:
            raise AnotherStudy("An image belongs to another study than that of the URL: it was not stored")


def _image(staged: StagedFile) -> RequestedImage:
    heading = staged.heading
    with staged.data_set() as stream:
        read = SOPInstance.read(stream, heading.transfer_syntax_uid, heading.sop_class_uid, heading.sop_instance_uid)
    return RequestedImage(read.sop_class_uid, read.sop_instance_uid, read.study_instance_uid, read.series_instance_uid)


class IncomingFiles:
    """Takes the parts of ``multipart/related; type="application/dicom"``.

    Parameters
    ----------
    keeper
        Stores the images.
    """

    def __init__(self, keeper: ImageKeeper) -> None:
        self._keeper = keeper
        self._head = bytearray()
        self._staged: StagedFile | None = None
        self._image = RequestedImage()
        self._error: BackupSCPError | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a file."""
        self._head.clear()
        self._staged = self._error = None
        self._image = RequestedImage()
        try:
            if parse_one(headers.get("content-type", DICOM)).name != DICOM:
                self._error = NotDICOM(f"A part is not {DICOM}, as its message says")
        except Problem:
            self._error = NotDICOM("The media type of a part cannot be read")

    def write(self, data: memoryview) -> None:
        """Write some bytes; the rest of a file that cannot be stored is read and dropped."""
        if self._error is not None:
            return
        try:
            if self._staged is not None:
                self._staged.write(data)
                return
            self._head += data
            if len(self._head) >= _HEAD_BYTES:
                self._stage()
        except BackupSCPError as error:
            self._fail(error)

    def end(self) -> None:
        """Store the file."""
        try:
            if self._error is None and self._staged is None:
                self._stage()
        except BackupSCPError as error:
            self._fail(error)
        if self._error is not None:
            self._keeper.result.add_failure(self._image, self._error)
        elif self._staged is not None:
            self._keeper.keep(self._staged)
        self._staged = None

    def finish(self) -> None:
        """End the request."""

    def abandon(self) -> None:
        """Drop a file whose end has not come."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None

    def _stage(self) -> None:
        head = BytesIO(self._head)
        heading = read_heading(head)
        self._image = RequestedImage(heading.sop_class_uid, heading.sop_instance_uid)
        self._staged = self._keeper.begin(heading)
        self._staged.write(bytes(self._head[head.tell() :]))
        self._head.clear()

    def _fail(self, error: BackupSCPError) -> None:
        self._error = error
        if self._staged is not None:
            self._staged.discard()
