"""Bodies and query strings of the web: multipart (RFC 2046), DICOM JSON and XML (PS3.18 F, PS3.19 A.1), QIDO-RS."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import quote

from tests.fuzz.data_sets import data_set, value
from tests.fuzz.mutation import mutated

_VRS = ("UI", "PN", "SQ", "DA", "DS", "IS", "US", "AT", "OB", "UN", "LO", "FD", "SV", "??", "")
_TAGS = (
    "00080016",
    "00080018",
    "0020000D",
    "0020000E",
    "00100010",
    "7FE00010",
    "00081110",
    "00020010",
    "x",
    "",
    "ffffffff",
)
_KEYS = (
    "PatientName",
    "00100010",
    "StudyDate",
    "limit",
    "offset",
    "includefield",
    "fuzzymatching",
    "ModalitiesInStudy",
    "PatientID",
    "x",
    "",
)


def _text(rng: Random) -> str:
    return value(rng).decode("utf-8", "surrogateescape" if rng.random() < 0.05 else "replace")


def _element(rng: Random, depth: int) -> Any:
    vr = rng.choice(_VRS)
    if rng.random() < 0.05:
        return rng.choice([None, [], "text", 1, {}])
    made: dict[str, Any] = {"vr": vr}
    kind = rng.randrange(6)
    if kind == 0:
        made["InlineBinary"] = rng.choice(["AAAA", "A", "%%", _text(rng)])
    elif kind == 1:
        made["BulkDataURI"] = rng.choice(["cid:1", "", "http://127.0.0.1/x", _text(rng), 5])
    else:
        made["Value"] = [_value(rng, vr, depth) for _ in range(rng.randrange(3))]
    return made


def _value(rng: Random, vr: str, depth: int) -> Any:
    if vr == "SQ" and depth < 5:
        return instance(rng, depth + 1)
    if vr == "PN" and rng.random() < 0.8:
        return {rng.choice(["Alphabetic", "Ideographic", "Phonetic", "x"]): rng.choice([_text(rng), None, 1])}
    return rng.choice([_text(rng), 0, -1, 1e308, 2**64, None, True, [], {}, float("nan")])


def instance(rng: Random, depth: int = 0) -> Any:
    """Return a Data Set of the DICOM JSON Model, valid or not."""
    return {rng.choice(_TAGS): _element(rng, depth) for _ in range(rng.randrange(1, 6))}


def json_text(rng: Random) -> bytes:
    text = json.dumps([instance(rng) for _ in range(rng.randrange(3))], ensure_ascii=rng.random() < 0.5)
    return mutated(rng, text.encode("utf-8", "surrogateescape"), 0.4)


def xml_text(rng: Random) -> bytes:
    tag, vr = rng.choice(_TAGS), rng.choice(_VRS)
    inside = rng.choice(
        [
            f'<Value number="{rng.choice(["1", "2", "0", "-1", ""])}">{rng.choice(["1.2", "&amp;", "a"])}</Value>',
            '<Item number="1"><DicomAttribute tag="00080060" vr="CS"><Value>CT</Value></DicomAttribute></Item>',
            '<PersonName number="1"><Alphabetic><FamilyName>Doe</FamilyName></Alphabetic></PersonName>',
            '<BulkData uri="cid:1"/>',
            "<InlineBinary>AAAA</InlineBinary>",
            "<Unknown/>",
        ]
    )
    element = f'<DicomAttribute tag="{tag}" vr="{vr}">{inside}</DicomAttribute>' * rng.randrange(1, 3)
    return mutated(rng, f"<NativeDicomModel>{element}</NativeDicomModel>".encode(), 0.5)


def multipart(rng: Random, boundary: str) -> bytes:
    parts = []
    for _ in range(rng.randrange(4)):
        kind = rng.choice(["application/dicom", "application/dicom+json", "application/dicom+xml", "x", ""])
        head = f"Content-Type: {kind}\r\n" + rng.choice(
            ["", "Content-Location: cid:1\r\n", "X: y\r\n" * rng.randrange(4)]
        )
        body = rng.choice([data_set, lambda rng, _: json_text(rng)])(rng, "1.2.840.10008.1.2.1")
        parts.append(f"--{boundary}\r\n{head}\r\n".encode() + body + b"\r\n")
    end = f"--{boundary}--\r\n".encode() if rng.random() < 0.8 else b""
    return mutated(rng, rng.choice([b"", b"preamble\r\n"]) + b"".join(parts) + end, 0.6)


def query_string(rng: Random) -> bytes:
    pairs = (
        f"{rng.choice(_KEYS)}={quote(value(rng), safe=rng.choice(['', '%', '*?^=&']))}" for _ in range(rng.randrange(5))
    )
    return mutated(rng, "&".join(pairs).encode(), 0.3)
