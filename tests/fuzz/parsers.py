"""What reads bytes of strangers, each with what it may say to wrong ones; anything else is a fault of ours."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from random import Random

import msgspec

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import READ_FROM_DATA_SET, Level
from backup_scp.dicom.model_text.data_set_text import data_set_text
from backup_scp.dicom.model_text.json_text import JSON
from backup_scp.dicom.model_text.model_values import ModelText
from backup_scp.dicom.model_text.xml_text import XML
from backup_scp.dicom.native_model_reader import read_native_model
from backup_scp.dicom.part10 import read_heading
from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.information_model import MODELS, Negotiated, read_query, read_retrieve
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.dimse.messages.command_set import CommandSet
from backup_scp.dimse.upper_layer.association_request import InvalidRequest, read_request
from backup_scp.errors import BackupSCPError, InvalidDataSet, InvalidIdentifier
from backup_scp.web.dicomweb.qido.parameters import read_search
from backup_scp.web.dicomweb.stow.data_set_encoder import Bulk, encode
from backup_scp.web.dicomweb.stow.multipart_reader import MultipartReader
from backup_scp.web.problems import Problem
from tests.fuzz import data_sets, pdu_streams, web_bodies

_MODELS = sorted(MODELS)
_BOUNDARY = "b0undary"


def read_data_set(rng: Random) -> None:
    """Read a Data Set as the node does when it comes, when it is indexed, and when a viewer asks for its metadata."""
    syntax = rng.choice(data_sets.SYNTAXES)
    made = data_sets.data_set(rng, syntax)
    with contextlib.suppress(InvalidDataSet):
        found = data_set.scan(io.BytesIO(made), syntax, READ_FROM_DATA_SET)
        for vr, value in found.elements.values():
            if vr == "SQ":
                with contextlib.suppress(InvalidDataSet):
                    list(data_set.items(value, READ_FROM_DATA_SET))
    SOPInstance.read(io.BytesIO(made), syntax, "1.2", "1.3")
    models: list[ModelText] = [JSON, XML]
    model = rng.choice(models)
    text = data_set_text(lambda at, size: made[at : at + size], len(made), syntax, model, "uri/")
    if model is JSON:
        msgspec.json.decode("{" + ",".join(text.elements) + "}")  # what a viewer gets is JSON, whatever came


def read_file(rng: Random) -> None:
    """Read the head of a file of an import."""
    preamble = rng.choice([b"", b"\0" * 128 + b"DICM", b"\0" * 128])
    with contextlib.suppress(BackupSCPError):
        stream = io.BytesIO(preamble + data_sets.data_set(rng, data_sets.EXPLICIT))
        heading = read_heading(stream)
        SOPInstance.read(stream, heading.transfer_syntax_uid)


def read_identifier(rng: Random) -> None:
    """Read the request of a query and of a retrieve."""
    syntax = rng.choice(data_sets.SYNTAXES[:4])
    model = MODELS[rng.choice(_MODELS)]
    asked = Negotiated(*(rng.random() < 0.5 for _ in range(3)))
    with contextlib.suppress(InvalidIdentifier):
        identifier = Identifier.read(data_sets.identifier(rng, syntax), syntax)
        for read in (read_query, read_retrieve):
            with contextlib.suppress(InvalidIdentifier):
                read(identifier, model, asked, strict=rng.random() < 0.5)


def read_command_set(rng: Random) -> None:
    """Decode a Command Set."""
    made = data_sets.command_set(rng, rng.choice([1, 0x20, 0x30]), "1.2.840.10008.1.1", has_data_set=rng.random() < 0.5)
    with contextlib.suppress(BackupSCPError):
        CommandSet.decode(made)


def read_association_request(rng: Random) -> None:
    """Decode the first PDU of a connection."""
    first = pdu_streams.stream(rng)[0]
    if first[:1] == b"\1":  # the state machine answers every other PDU
        with contextlib.suppress(InvalidRequest):
            read_request(first)


class _Parts:
    def begin(self, headers: Mapping[str, str]) -> None:
        assert all(name == name.lower() for name in headers)

    def write(self, data: memoryview) -> None:
        bytes(data)

    def end(self) -> None:
        pass


def read_multipart(rng: Random) -> None:
    """Split a body into its parts, in chunks of any size."""
    body = web_bodies.multipart(rng, _BOUNDARY)
    step = rng.choice([1, 7, 64, 1 << 16])
    with contextlib.suppress(Problem):
        reader = MultipartReader(_BOUNDARY, _Parts())
        reader.feed(body[at : at + step] for at in range(0, len(body), step))
        reader.require_end()


def read_metadata(rng: Random) -> None:
    """Encode a Data Set that came as JSON or as XML."""
    with contextlib.suppress(InvalidDataSet, msgspec.DecodeError, UnicodeError):
        is_json = rng.random() < 0.7
        found = (
            msgspec.json.decode(web_bodies.json_text(rng)) if is_json else read_native_model(web_bodies.xml_text(rng))
        )
        for instance in found if isinstance(found, list) else [found]:
            for _ in encode(instance, lambda _: [Bulk(0, lambda: iter(()))], is_encapsulated=rng.random() < 0.5):
                pass


def read_search_request(rng: Random) -> None:
    """Read a search of a web client."""
    with contextlib.suppress(Problem):
        asked = read_search(web_bodies.query_string(rng), rng.choice(list(Level)[1:]), {})
        _ = asked.identifier


PARSERS: dict[str, Callable[[Random], None]] = {
    "Data Sets": read_data_set,
    "files": read_file,
    "Identifiers": read_identifier,
    "Command Sets": read_command_set,
    "A-ASSOCIATE-RQ": read_association_request,
    "multipart": read_multipart,
    "metadata": read_metadata,
    "searches": read_search_request,
}
