"""Parse media types, and choose one of those offered by the Accept header (RFC 9110 12.5.1; PS3.18 8.7).

Values may stand in quotation marks or not, also ``*`` and those with signs that need them: viewers write both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.requests import Request

from backup_scp.web.problems import Problem

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/related"

LONGEST_BYTES = 8192
MOST_RANGES = 64

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"\s*({_WORD})\s*/\s*({_WORD})\s*")
_PARAMETER = re.compile(rf'\s*;\s*(?:({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*))\s*)?')
_Q = re.compile(r"0(?:\.\d*)?|1(?:\.0*)?|\.\d+")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type, or a range of them in an Accept header.

    Attributes
    ----------
    name
        Type and subtype in small letters, such as ``application/dicom`` or ``*/*``.
    parameters
        By name in small letters, without ``q``.
    q
        How much the caller likes it; 0 is not at all.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    q: float = 1.0

    @property
    def root(self) -> str:
        """The media type of the parts of a multipart; empty when it is not said."""
        return self.parameters.get("type", "").lower()

    @property
    def transfer_syntax(self) -> str:
        """The Transfer Syntax, ``*`` for the stored one, or empty when it is not said (PS3.18 8.7.3.5.2)."""
        return self.parameters.get("transfer-syntax", "")

    @property
    def is_multipart(self) -> bool:
        """Whether it is ``multipart/related``."""
        return self.name == MULTIPART

    def covers(self, name: str, root: str = "") -> bool:
        """Tell whether this range includes a media type, whose parts are of the type ``root`` if it is a multipart."""
        kind, _, subtype = self.name.partition("/")
        if self.name not in ("*/*", name) and not (subtype == "*" and name.startswith(f"{kind}/")):
            return False
        return not root or not self.root or MediaType(self.root).covers(root)

    @property
    def precision(self) -> int:
        """How exactly it names one media type."""
        if self.name == "*/*":
            return 0
        return 1 if self.name.endswith("/*") else 2 + len(self.parameters)


@dataclass(frozen=True, slots=True)
class Offer:
    """A media type that can be sent.

    Attributes
    ----------
    name
        Its name.
    root
        The media type of its parts, if it is a multipart.
    """

    name: str
    root: str = ""

    def __str__(self) -> str:
        return f'{self.name}; type="{self.root}"' if self.root else self.name


def parse(text: str) -> tuple[MediaType, ...]:
    """Parse the value of an Accept header, in its order.

    Raises
    ------
    Problem
        400: it is no list of media types.
    """
    if len(text) > LONGEST_BYTES:
        raise Problem(400, f"The Accept header is longer than {LONGEST_BYTES} bytes")
    found: list[MediaType] = []
    position = 0
    while position < len(text):
        if not text[position:].strip(" \t,"):
            break
        position += len(text) - position - len(text[position:].lstrip(" \t,"))
        one, position = _read(text, position)
        found.append(one)
        if position < len(text) and text[position] != ",":
            raise _not_understood(position)
        if len(found) > MOST_RANGES:
            raise Problem(400, f"The Accept header has more than {MOST_RANGES} media types")
    return tuple(found)


def parse_one(text: str) -> MediaType:
    """Parse the value of a Content-Type header.

    Raises
    ------
    Problem
        400: it is no media type.
    """
    if len(text) > LONGEST_BYTES:
        raise Problem(400, f"The media type is longer than {LONGEST_BYTES} bytes")
    one, position = _read(text, 0)
    if text[position:].strip():
        raise _not_understood(position)
    return one


def _read(text: str, position: int) -> tuple[MediaType, int]:
    matched = _TYPE.match(text, position)
    if matched is None:
        raise _not_understood(position)
    name = f"{matched[1]}/{matched[2]}".lower()
    position = matched.end()
    parameters: dict[str, str] = {}
    while (matched := _PARAMETER.match(text, position)) is not None:
        if matched[1]:
            quoted = matched[2]
            value = matched[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(matched[1].lower(), value)
        position = matched.end()
    q = parameters.pop("q", "1")
    if not _Q.fullmatch(q):
        raise Problem(400, "q of a media type is a number from 0 to 1")
    return MediaType(name, parameters, float(q)), position


def _not_understood(position: int) -> Problem:
    return Problem(400, f"What begins at character {position + 1} is no media type, such as application/dicom+json")


def accepted(request: Request) -> tuple[MediaType, ...]:
    """Return what a request accepts, the best first; ``*/*`` when it says nothing (PS3.18 8.3.3.1, 8.7.5).

    The query parameter ``accept`` is for those who cannot set a header, and counts first.

    Raises
    ------
    Problem
        400
    """
    return _accepted(*_accept_texts(request))


def _accept_texts(request: Request) -> tuple[str, str]:
    """Return what the query and the header say."""
    query = request.query_params.getlist("accept") if b"accept=" in request.scope["query_string"] else ()
    return ",".join(query), ",".join(request.headers.getlist("accept"))


@lru_cache(maxsize=256)  # a client's are always the same
def _accepted(query: str, header: str) -> tuple[MediaType, ...]:
    return in_order(parse(query) or parse(header)) or (MediaType("*/*"),)


def in_order(ranges: Iterable[MediaType]) -> tuple[MediaType, ...]:
    """Sort by what the caller likes most; of what it likes equally, the more precise first."""
    return tuple(sorted(ranges, key=lambda each: (-each.q, -each.precision)))


def choose(ranges: Sequence[MediaType], offers: Sequence[Offer]) -> Offer | None:
    """Return the best offer, of equally good ones the first; None when the caller accepts none of them."""
    best, best_q = None, 0.0
    for offer in offers:
        fitting = [each for each in ranges if each.covers(offer.name, offer.root)]
        if fitting:
            q = max(fitting, key=lambda each: each.precision).q
            if q > best_q:
                best, best_q = offer, q
    return best


def require(request: Request, offers: tuple[Offer, ...]) -> Offer:
    """Return the best offer for a request.

    Raises
    ------
    Problem
        406: it accepts none of them; the text lists them.
    """
    offer = _chosen(*_accept_texts(request), offers)
    if offer is None:
        raise not_acceptable(map(str, offers))
    return offer


@lru_cache(maxsize=256)
def _chosen(query: str, header: str, offers: tuple[Offer, ...]) -> Offer | None:
    return choose(_accepted(query, header), offers)


def not_acceptable(offers: Iterable[str]) -> Problem:
    """Return the problem of a request that accepts nothing that can be sent."""
    return Problem(406, f"This can be sent as {', or as '.join(offers)}: ask for one of them in the Accept header")
