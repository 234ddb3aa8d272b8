"""Random identifiers through a running node, asked by pynetdicom: decoded answers against the reference matcher."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset
from pynetdicom import AE, _config
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from backup_scp.dicom.attributes import BY_TAG, Level
from backup_scp.dicom.query.information_model import InformationModel
from tests.differential import MODELS, SYNTAXES, Asked, archive, asked, data_set, some_negotiated, versions, writable
from tests.index.examples import filling
from tests.reference_archive import ReferenceArchive

ASSOCIATIONS, IDENTIFIERS = 8, 32
PENDING, UNSUPPORTED, SUCCESS = 0xFF00, 0xFF01, 0x0000
BYTES = ("relational", "date_time", "fuzzy_names", "time_zone", "view", "empty_values", "multiple_values")
TEXT = {"LO", "LT", "PN", "SH"}
DELIMITERS = {"PN": set(b"\\^=\t\n\f\r"), "LT": set(b"\t\n\f\r")}


def proposal(model: InformationModel, negotiated: frozenset[str]) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = model.find_uid
    item.service_class_application_information = bytes(name in negotiated for name in BYTES)
    return item


def decoded(answer: Dataset) -> dict[str, str]:
    """Decode each value as a whole, as its Specific Character Set says."""
    encodings = convert_encodings(answer.get("SpecificCharacterSet") or "ISO_IR 6")
    values = {}
    for attribute in (BY_TAG[tag] for tag in answer.keys() & BY_TAG.keys()):
        raw = answer.get_item(attribute.tag).value or b""
        if attribute.vr == "US":
            values[attribute.keyword] = str(answer[attribute.tag].value) if raw else ""
        elif attribute.vr in TEXT:
            text = decode_bytes(raw, encodings, DELIMITERS.get(attribute.vr, set(b"\\\t\n\f\r")))
            values[attribute.keyword] = text.replace("\x1b$)A", "").rstrip(" ")  # pydicom leaves this one in
        else:
            values[attribute.keyword] = raw.decode("ascii").rstrip("\0 ")
    return values


def expected(reference: ReferenceArchive, question: Asked) -> list[dict[str, str]]:
    """Return keys below the level are there, empty; of the unique keys those of the model."""
    model, keys = question.model, question.keys
    shown = {key.keyword for key in model.unique_keys(question.level)} | keys.keys()
    answers = reference.answers(question.level, model.levels[0], keys, question.negotiated)
    return [{keyword: answer.get(keyword, "") for keyword in shown} for answer in answers]


def check_character_set(question: Asked, answer: Dataset, values: dict[str, str]) -> None:
    """None for ASCII; else the requester's if it can hold the values, else UTF-8."""
    terms = answer.get("SpecificCharacterSet")
    declared = terms if isinstance(terms, str) or terms is None else "\\".join(terms)
    texts = [(text, BY_TAG[tag].vr) for tag in answer.keys() & BY_TAG.keys() if (text := values[BY_TAG[tag].keyword])]
    if all(text.isascii() for text, _ in texts):
        assert declared is None
    elif question.character_set and all(writable(*text, question.character_set) for text in texts):
        assert declared == question.character_set
    else:
        assert declared in {"ISO_IR 192", question.character_set}


def counted(answers: list[dict[str, str]]) -> Counter:
    return Counter(tuple(sorted(answer.items())) for answer in answers)


def test_a_node_answers_as_the_standard_says(start_server, storage, monkeypatch):
    monkeypatch.setattr(_config, "LOG_RESPONSE_IDENTIFIERS", False)  # it would read the values, in pydicom's way
    chance = random.Random(2024)
    instances = archive(chance, patients=8)
    reference = ReferenceArchive(instances)
    with filling(storage.index) as enter:
        for each in versions(chance, instances):
            enter(each)
    node = start_server(storage.services())
    for _ in range(ASSOCIATIONS):
        model, negotiated = chance.choice(MODELS), some_negotiated(chance)
        ae = AE("TESTER")
        ae.add_requested_context(model.find_uid, chance.choice(SYNTAXES))
        association = ae.associate(node.host, node.port, ae_title=node.ae_title, ext_neg=[proposal(model, negotiated)])
        assert association.is_established
        try:
            for _ in range(IDENTIFIERS):
                question = asked(chance, chance.choice(reference.rows[Level.IMAGE]), model, negotiated)
                check(association, question, expected(reference, question))
        finally:
            association.release()


def check(association, question: Asked, right: list[dict[str, str]]) -> None:
    identifier = data_set(question.keys, question.character_set, question.level)
    *pending, (final, _) = association.send_c_find(identifier, question.model.find_uid)
    assert final.Status == SUCCESS, question
    supported = all(question.model.supports(BY_TAG[int(e.tag)], question.level) for e in identifier if e.tag in BY_TAG)
    assert {status.Status for status, _ in pending} <= {PENDING if supported else UNSUPPORTED}
    found = [decoded(answer) for _, answer in pending]
    if counted(found) != counted(right):
        wrong, missing = counted(found) - counted(right), counted(right) - counted(found)
        pytest.fail(f"{question}\nonly the node: {list(wrong)[:3]}\nonly the reference: {list(missing)[:3]}")
    for (_, answer), values in zip(pending, found, strict=True):
        assert answer.QueryRetrieveLevel == question.level
        check_character_set(question, answer, values)
