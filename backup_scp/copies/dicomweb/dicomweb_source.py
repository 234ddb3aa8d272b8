"""A PACS whose images are fetched by DICOMweb: listed by QIDO-RS, brought by WADO-RS as stored (PS3.18 10.5, 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from backup_scp.copies.dicomweb.dicomweb_session import DICOMwebSession, Login
from backup_scp.copies.dicomweb.received import ReceivedFile
from backup_scp.dicom.uids import is_like_uid
from backup_scp.errors import Damaged, DestinationUnavailable, InstanceRefused, InstanceUnconfirmed, InvalidDataSet
from backup_scp.ports import (
    SEES_ALL,
    Answers,
    Begin,
    Heading,
    Incoming,
    InstanceKey,
    KeepStudy,
    RemoteImage,
    RemoteSeries,
    RemoteStudy,
    Span,
)

_PAGE = 500  # answers to one request
_STUDY, _DATE, _TIME, _SERIES, _IMAGE, _SOP_CLASS = (
    "0020000D",
    "00080020",
    "00080030",
    "0020000E",
    "00080018",
    "00080016",
)
_IN_STUDY, _IN_SERIES, _PATIENT = "00201208", "00201209", "00100020"

T = TypeVar("T")
Elements = dict[str, Any]


class DICOMwebSource:
    """A DICOMweb server as ``ports.PullSource``.

    Parameters
    ----------
    base_url
        Of the service: ``https://HOST/PATH``.
    credentials, ca, timeouts_s
        See ``DICOMwebSession``.
    site
        The clinic whose images another backup-scp gives, and whose they are here; empty for none.
    """

    ae_title = ""
    here = SEES_ALL
    if_lost = ", and it is not here"

    def __init__(
        self, base_url: str, credentials: Login, ca: Path | None, timeouts_s: tuple[float, float], site: str = ""
    ) -> None:
        self.site = site
        self.name = urlsplit(base_url).netloc
        self.address = urlsplit(base_url).hostname or ""
        self._session = DICOMwebSession(base_url.rstrip("/"), credentials, ca, timeouts_s)
        self._session.site = site

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._session.__exit__(*exc)

    # -- listing -----------------------------------------------------------------------------------------------------

    def studies(self, span: Span, keep: KeepStudy) -> Answers[RemoteStudy]:
        """See ``ports.PullSource``."""
        keys = {"StudyDate": _range(span.first, span.last), "StudyTime": _range(span.from_time, span.to_time)}
        keys = {key: value for key, value in keys.items() if value} | {"includefield": _IN_STUDY}

        def listed(answer: Elements) -> RemoteStudy | None:
            study = RemoteStudy(
                _text(answer, _STUDY),
                _text(answer, _DATE),
                _text(answer, _TIME),
                _number(answer, _IN_STUDY),
                _text(answer, _PATIENT),
            )
            return study if keep(study) else None

        return self._search("/studies", keys, _STUDY, listed)

    def series(self, study_instance_uid: str) -> Answers[RemoteSeries]:
        """See ``ports.PullSource``."""

        def listed(answer: Elements) -> RemoteSeries | None:
            uid = _text(answer, _SERIES)
            return RemoteSeries(study_instance_uid, uid, _number(answer, _IN_SERIES)) if is_like_uid(uid) else None

        path = f"/studies/{study_instance_uid}/series"
        return self._search(path, {"includefield": _IN_SERIES}, _SERIES, listed)

    def images(self, series: RemoteSeries) -> Answers[RemoteImage]:
        """See ``ports.PullSource``."""
        study_uid, series_uid, _ = series

        def listed(answer: Elements) -> RemoteImage | None:
            uid = _text(answer, _IMAGE)
            key = InstanceKey(study_uid, series_uid, uid)
            return RemoteImage(key, _text(answer, _SOP_CLASS)) if is_like_uid(uid) else None

        return self._search(f"/studies/{study_uid}/series/{series_uid}/instances", {}, _IMAGE, listed)

    def _search(
        self, path: str, keys: dict[str, str], unique: str, listed: Callable[[Elements], T | None]
    ) -> Answers[T]:
        """Ask page by page, until one brings nothing new: a server may give fewer answers than were asked for."""
        found: list[T] = []
        seen: set[str] = set()
        while True:
            page = self._page(path, keys | {"limit": str(_PAGE), "offset": str(len(seen))})
            if isinstance(page, str):
                return Answers(found, len(seen), page)
            fresh = {uid: answer for answer in page if (uid := _text(answer, unique)) not in seen}
            if not fresh:
                return Answers(found, len(seen))
            seen |= fresh.keys()
            found += [one for answer in fresh.values() if (one := listed(answer)) is not None]

    def _page(self, path: str, keys: dict[str, str]) -> list[Elements] | str:
        try:
            return self._session.search(path, keys)
        except InstanceUnconfirmed as error:
            raise DestinationUnavailable(str(error)) from None

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch_series(self, series: RemoteSeries, images: Sequence[RemoteImage], begin: Begin) -> str:
        """See ``ports.PullSource``: each listed image by a request of its own."""
        if not images:
            return f"{self.name} does not list the images of series {series.series_instance_uid}"
        return next(filter(None, [self.fetch_image(image, begin) for image in images]), "")

    def fetch_image(self, image: RemoteImage, begin: Begin) -> str:
        """See ``ports.PullSource``: in the Transfer Syntax that is stored there."""
        incoming: Incoming | None = None

        def open_incoming(transfer_syntax_uid: str) -> Incoming:
            nonlocal incoming
            heading = Heading(image.sop_class_uid, image.key.sop_instance_uid, transfer_syntax_uid, self.ae_title)
            incoming = begin(heading)
            return incoming

        try:
            self._session.retrieve(image.key, ReceivedFile(begin=open_incoming).write)
            if incoming is None:
                return f"{self.name} gives an empty file of {image.key.sop_instance_uid}"
            incoming.accept()
        except InstanceUnconfirmed:
            raise
        except (Damaged, InstanceRefused, InvalidDataSet) as error:
            return str(error)
        finally:
            if incoming is not None:
                incoming.discard()
        return ""


def _text(answer: Elements, tag: str) -> str:
    """Return the first value of an element in the DICOM JSON Model (PS3.18 F.2); empty when there is none."""
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip() if isinstance(values, list) and values and values[0] is not None else ""


def _number(answer: Elements, tag: str) -> int | None:
    text = _text(answer, tag)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _range(first: str, last: str) -> str:
    """Return the value for Range Matching (PS3.18 8.3.4.1); one day or one moment as a single value."""
    return first if first == last else f"{first}-{last}"
