"""Random searches against the reference matcher: from the URL to the JSON that comes back."""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from backup_scp.dicom.attributes import BY_KEYWORD, Attribute, Level
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from tests.differential import Asked, archive, asked, versions
from tests.index.examples import filling
from tests.reference_archive import ReferenceArchive
from tests.web.conftest import BASE, stores_of_index

SEARCHES = int(os.environ.get("BACKUP_SCP_TEST_SEARCHES", "200"))
OF_ONE_ARCHIVE = 200

PATHS = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
PARAMETERS = {
    "fuzzy_names": "fuzzymatching", "empty_values": "emptyvaluematching", "multiple_values": "multiplevaluematching",
}  # fmt: skip
NUMBERS = ("IS", "DS", "US")


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Iterator[SQLIndex]:
    url = f"sqlite:///{tmp_path_factory.mktemp('index')}/index.db"
    upgrade(url)
    with contextlib.closing(SQLIndex(url)) as index:
        yield index


@pytest.fixture(scope="module")
def client(index) -> TestClient:
    return TestClient(application(stores_of_index(index), WebOptions()), base_url=BASE, client=("127.0.0.1", 50000))


def with_words_of_a_name(chance: random.Random, name: str, question: Asked) -> Asked:
    """Ask for the beginnings of a patient's names, in any order: other draws seldom do."""
    words = [word[: chance.randrange(1, 9)] for word in name.partition("=")[0].replace("^", " ").split()]
    chance.shuffle(words)
    keys = {"PatientName": " ".join(words)}
    return replace(question, keys=keys, negotiated=question.negotiated | chance.choice([set(), {"fuzzy_names"}]))


def as_search(chance: random.Random, question: Asked) -> tuple[str, dict[str, str]]:
    """Return the URL, and the keys that it has: those above the level, and without control characters."""
    keys = {
        keyword: value
        for keyword, value in question.keys.items()
        if STUDY_ROOT.supports(BY_KEYWORD[keyword], question.level) and "\0" not in value and not _has_date_times(value)
    }
    parts = [f"{_name(chance, BY_KEYWORD[keyword])}={_value(chance, value)}" for keyword, value in keys.items()]
    parts += [f"{PARAMETERS[name]}=true" for name in question.negotiated & PARAMETERS.keys()]
    return f"/{PATHS[question.level]}?{'&'.join(parts)}", keys


def _has_date_times(value: str) -> bool:
    """Tell whether a range has a DT where a DA or TM belongs: the reference reads its offset as another range."""
    return "-" in value and re.search(r"[0-9]{10}", value) is not None


def _name(chance: random.Random, attribute: Attribute) -> str:
    tag = f"{attribute.tag:08X}"
    return chance.choice([attribute.keyword, tag, tag.lower()])


def _value(chance: random.Random, value: str) -> str:
    if chance.random() < 0.3:
        return "".join(f"%{byte:02x}" for byte in value.encode())
    return quote(value, safe=chance.choice(["", "*?-,:^="]))


def text_of(attribute: Attribute, element: Mapping[str, Any]) -> str:
    """Return the text that the JSON of an attribute came from."""
    assert element["vr"] == attribute.vr
    values = element.get("Value", [])
    if attribute.vr == "PN":
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        values = ["=".join((each or {}).get(group, "") for group in groups).rstrip("=") for each in values]
    return "\\".join("" if each is None else str(each) for each in values)


def comparable(attribute: Attribute, text: str) -> object:
    """Numbers lose their form in JSON; a name may have its last delimiters."""
    if attribute.vr in NUMBERS:
        with contextlib.suppress(ValueError):
            return float(text)
    return "\\".join(name.rstrip("=") for name in text.split("\\")) if attribute.vr == "PN" else text


def counted(rows: Iterable[Mapping[str, str]]) -> Counter:
    return Counter(
        tuple(sorted((keyword, comparable(BY_KEYWORD[keyword], text)) for keyword, text in row.items())) for row in rows
    )


def answered(client: TestClient, url: str, keys: Iterable[str]) -> Counter:
    answer = client.get(url)
    assert answer.status_code in {200, 204}, f"{url}: {answer.text}"
    results = answer.json() if answer.status_code == 200 else []
    return counted({k: text_of(BY_KEYWORD[k], each[f"{BY_KEYWORD[k].tag:08X}"]) for k in keys} for each in results)


def expected(reference: ReferenceArchive, question: Asked, keys: dict[str, str], shown: set[str]) -> Counter:
    negotiated = question.negotiated & PARAMETERS.keys()
    rows = reference.answers(question.level, Level.STUDY, keys, negotiated)
    return counted({keyword: row[keyword] for keyword in shown} for row in rows)


@pytest.mark.parametrize("seed", range(-(-SEARCHES // OF_ONE_ARCHIVE)))
def test_searches_answer_as_the_standard_says(index, client, seed):
    chance = random.Random(seed + 1000)
    instances = archive(chance)
    reference = ReferenceArchive(instances)
    with filling(index) as enter:
        for each in versions(chance, instances):
            enter(each)
    some = 0
    for _ in range(OF_ONE_ARCHIVE):
        row = chance.choice(reference.rows[Level.IMAGE])
        question = asked(chance, row, STUDY_ROOT)
        if chance.random() < 0.2:
            question = with_words_of_a_name(chance, row["PatientName"], question)
        url, keys = as_search(chance, question)
        shown = {key.keyword for key in STUDY_ROOT.unique_keys(question.level)} | keys.keys()
        found, right = answered(client, url, shown), expected(reference, question, keys, shown)
        some += bool(right)
        differences = f"only QIDO: {list(found - right)[:3]}\nonly the reference: {list(right - found)[:3]}"
        assert found == right, f"{url} {keys}\n{differences}"
    assert some > OF_ONE_ARCHIVE // 10
