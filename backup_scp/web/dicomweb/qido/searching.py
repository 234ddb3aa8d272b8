"""Answer searches: the handlers of QIDO-RS and their routes (PS3.18 10.6)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from itertools import chain, islice

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.attributes import ATTRIBUTES, BY_TAG, Attribute, Level
from backup_scp.dicom.query.information_model import STUDY_ROOT, Query, SingleValue, read_query
from backup_scp.dicom.query.time_zone import InTimeZone, requested_offset
from backup_scp.dicom.rendering import prepare
from backup_scp.ports import Match, StudyReader
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.dicomweb.qido import result_tables
from backup_scp.web.dicomweb.qido.parameters import NAMES, SearchRequest, read_search
from backup_scp.web.dicomweb.qido.result_writer import ResultWriter, json_body, xml_body
from backup_scp.web.media_types import DICOM_JSON, DICOM_XML, JSON, MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.route import Handler, Route, base_of, require_uids
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse
from backup_scp.web.worker_threads import in_thread

log = logging.getLogger(__name__)

OFFERS = (Offer(DICOM_JSON), Offer(MULTIPART, DICOM_XML), Offer(JSON))
MOST_COUNTED = 100
"""How many results behind the last one are counted for the Warning header."""

_SELECTIVE = {
    Level.STUDY: {"StudyInstanceUID", "PatientID", "AccessionNumber"},
    Level.SERIES: {"StudyInstanceUID", "SeriesInstanceUID"},
    Level.IMAGE: {"SOPInstanceUID"},
}
_MOST_HELD = 1000  # results
_WRITE_BYTES = 1 << 16  # what is shorter is sent at once, with its length
_KEYWORDS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}


@dataclass(frozen=True, slots=True)
class _Search:
    """One search, ready to be run; it does not touch the index yet."""

    query: Query
    offset: str
    asked: SearchRequest
    writer: ResultWriter
    offer: Offer
    base: str

    @property
    def is_quick(self) -> bool:
        """Whether one value leaves few results, so that the answer takes less time than passing it to a thread."""
        selective = _SELECTIVE[self.query.level]
        return self.asked.limit is None and any(
            condition.attribute.keyword in selective and isinstance(condition.matching, SingleValue)
            for condition in self.query.conditions
        )


def _handler(level: Level, above: tuple[Level, ...]) -> Handler:
    """Return the handler of a resource; ``above`` are the levels that its path does not name."""

    async def handler(request: Request, stores: Stores) -> Response:
        offer = media_types.require(request, OFFERS)
        path = {_KEYWORDS[name]: uid for name, uid in request.path_params.items()}
        asked = read_search(request.scope["query_string"], level, path)
        search = _prepared(asked, above, offer, base_of(request))
        if level is Level.STUDY and asked.limit is not None:
            prepare()  # a viewer lists studies, and asks for their thumbnails then
        if stores.index_is_embedded and search.is_quick:
            answer = _answer(search, stores.index)
        else:
            answer = await in_thread(_answer, search, stores.index)
        if answer.status_code == HTTPStatus.NO_CONTENT:
            require_uids(request.path_params)
        return answer

    return handler


def _prepared(asked: SearchRequest, above: tuple[Level, ...], offer: Offer, base: str) -> _Search:
    identifier = asked.identifier
    query = read_query(identifier, STUDY_ROOT, asked.negotiated)
    item_keys = tuple((tag, tuple(inside.tag for inside in key.items)) for tag, key in asked.keys.items() if key.items)
    returned, writer = _form(asked.level, above, query.return_keys, tuple(asked.include), item_keys)
    is_paged = asked.limit is not None or asked.offset > 0
    query = Query(query.level, query.conditions, returned, is_paged)
    return _Search(query, requested_offset(identifier), asked, writer, offer, base)


@lru_cache(maxsize=256)  # a viewer's searches ask for the same attributes again and again
def _form(
    level: Level,
    above: tuple[Level, ...],
    keys: tuple[Attribute, ...],
    included: tuple[Attribute, ...],
    item_keys: tuple[tuple[int, tuple[int, ...]], ...],
) -> tuple[tuple[Attribute, ...], ResultWriter]:
    """Return the attributes to ask the index for, and what writes them."""
    returned = tuple(dict.fromkeys([*keys, *included, *result_tables.required(level, above)]))
    items = {tag: tuple(item for item in BY_TAG[tag].items if item.tag in wanted) for tag, wanted in item_keys}
    requested = frozenset(attribute.tag for attribute in (*keys, *included))
    return returned, ResultWriter(level, {*STUDY_ROOT.unique_keys(level), *returned}, requested, items)


def _answer(search: _Search, index: StudyReader) -> Response:
    began = time.monotonic()
    page, remaining = _page(lambda: _matches(index, search.query, search.offset), search.asked)
    headers = _warning(search.base, remaining)
    first = next(page, None)
    if first is None:
        return Response(status_code=204, headers=headers)
    results, writer = chain([first], page), search.writer
    if search.offer.name == MULTIPART:
        multipart = MultipartWriter(DICOM_XML)
        content_type, body = multipart.content_type, xml_body(writer.xml(results, search.base), multipart)
    else:
        content_type, body = search.offer.name, json_body(writer.json(results, search.base))
    log.debug("QIDO-RS at %s level: the first result after %.3f s", search.query.level, time.monotonic() - began)
    return _response(body, content_type, headers)


def _matches(index: StudyReader, query: Query, offset: str) -> Generator[Match, None, None]:
    """Search; with times in the zone that the request names."""
    adjusted = InTimeZone(query, offset) if offset else None
    with closing(index.search(adjusted.query if adjusted else query)) as found:
        if adjusted is None:
            yield from found
        else:
            yield from (match for match in adjusted.matches(found) if match is not None)


def _page(search: Callable[[], Generator[Match, None, None]], asked: SearchRequest) -> tuple[Iterator[Match], int]:
    """Return the results to send, and how many come behind them: counted up to ``MOST_COUNTED``."""
    matches = search()
    if asked.limit is None:
        return islice(matches, asked.offset, None), 0
    end = asked.offset + asked.limit
    if asked.limit > _MOST_HELD:  # the header comes first, so it must be known before what it counts is sent
        with closing(matches):
            remaining = _length(islice(matches, end, end + MOST_COUNTED))
        return islice(search(), asked.offset, end), remaining
    with closing(matches):
        held = list(islice(matches, asked.offset, end))
        return iter(held), _length(islice(matches, MOST_COUNTED))


def _length(results: Iterator[Match]) -> int:
    return sum(1 for _ in results)


def _warning(base: str, remaining: int) -> dict[str, str]:
    """Return the header that says that results are missing (PS3.18 8.3.4.4.1)."""
    if not remaining:
        return {}
    number = f"{remaining} or more" if remaining == MOST_COUNTED else str(remaining)
    return {"Warning": f'299 {base} "There are {number} additional results that can be requested"'}


def _response(body: Iterator[bytes], content_type: str, headers: dict[str, str]) -> Response:
    """Return an answer: a short one with its length, a long one in pieces while it is being found."""
    pieces = _pieces(body)
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        return Response(first, headers=headers, media_type=content_type)
    return StreamedResponse(_with_rest(first, second, pieces), content_type, headers=headers)


def _with_rest(first: bytes, second: bytes, pieces: Generator[bytes, None, None]) -> Iterator[bytes]:
    with closing(pieces):  # when the caller is gone, the search ends
        yield first
        yield second
        yield from pieces


def _pieces(body: Iterator[bytes]) -> Generator[bytes, None, None]:
    piece: list[bytes] = []
    length = 0
    for part in body:
        piece.append(part)
        length += len(part)
        if length >= _WRITE_BYTES:
            yield b"".join(piece)
            piece, length = [], 0
    yield b"".join(piece)


_STUDY, _SERIES, _IMAGE = Level.STUDY, Level.SERIES, Level.IMAGE


def _route(path: str, transaction: str, level: Level, *above: Level) -> Route:
    keys = tuple(a.keyword for a in ATTRIBUTES if STUDY_ROOT.supports(a, level))
    handler = _handler(level, above)
    return Route(path, "GET", transaction, "10.6", Right.FIND, handler, OFFERS, (*keys, *NAMES))


ROUTES = (
    _route("/studies", "Search for Studies", _STUDY),
    _route("/studies/{study}/series", "Search for Study Series", _SERIES),
    _route("/studies/{study}/instances", "Search for Study Instances", _IMAGE, _SERIES),
    _route("/studies/{study}/series/{series}/instances", "Search for Study Series Instances", _IMAGE),
    _route("/series", "Search for Series", _SERIES, _STUDY),
    _route("/instances", "Search for Instances", _IMAGE, _STUDY, _SERIES),
)
