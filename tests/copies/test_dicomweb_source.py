"""A DICOMweb server as a source: pages, limits, answers that break off or are something else."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from backup_scp.copies.dicomweb.dicomweb_session import Login
from backup_scp.copies.dicomweb.dicomweb_source import DICOMwebSource
from backup_scp.errors import DestinationUnavailable, InstanceUnconfirmed, InvalidDataSet
from backup_scp.ports import Heading, InstanceKey, RemoteImage, RemoteSeries, RemoteStudy, Span
from tests.copies.dicomweb_server import Answer, Server, wado
from tests.samples import ct_series, encode
from tests.stored import key_of

(CT,) = (encode(ds) for ds in ct_series(1))
IMAGE = RemoteImage(key_of(CT), CT.sop_class_uid)
SERIES = RemoteSeries(*key_of(CT)[:2], 1)


@pytest.fixture
def start():
    servers: list[Server] = []

    def run(answers):
        """Answer all but the first request by ``answers(path, keys)``."""

        def meddles(_method, path, _headers, answer):
            keys = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
            if keys == {"limit": "1"}:
                return answer
            return answers(urlsplit(path).path.removeprefix("/dicom-web"), keys)

        servers.append(Server(meddles))
        base_url = servers[-1].url.removeprefix("dicomweb+")
        return DICOMwebSource(base_url, Login(), None, (5.0, 5.0))

    yield run
    for server in servers:
        server.close()


def listed(*answers: dict[str, object]) -> Answer:
    content = [{tag: {"vr": "UI", "Value": [value]} for tag, value in answer.items()} for answer in answers]
    return Answer(200, {"Content-Type": "application/dicom+json"}, json.dumps(content).encode())


def studies_of(source, span=Span()):  # noqa: B008 - a constant
    return source.studies(span, lambda _: True)


def test_studies_are_asked_for_by_date_and_time_page_by_page(start):
    asked = []

    def answers(path, keys):
        asked.append((path, keys))
        at = int(keys["offset"])
        return listed(
            *({"0020000D": f"1.2.{number}", "00201208": 3, "00100020": "P1"} for number in range(at, min(at + 2, 5)))
        )

    with start(answers) as source:
        found = studies_of(source, Span("20260101", "20260101", "080000", "085959"))
    assert found == ([RemoteStudy(f"1.2.{number}", "", "", 3, "P1") for number in range(5)], 5, "")
    keys = {"StudyDate": "20260101", "StudyTime": "080000-085959", "includefield": "00201208", "limit": "500"}
    assert asked == [("/studies", keys | {"offset": at}) for at in ("0", "2", "4", "5")]


def test_a_server_that_knows_no_pages_is_asked_twice(start):
    asked = []

    def answers(path, keys):
        asked.append(keys["offset"])
        return listed({"0020000D": "1.2.1"}, {"0020000D": "1.2.2"})

    with start(answers) as source:
        assert studies_of(source).total == 2
    assert asked == ["0", "2"]


def test_nothing_is_an_answer(start):
    with start(lambda *_: Answer(204)) as source:
        assert studies_of(source) == ([], 0, "")


def test_a_refusal_is_told_as_a_limit(start):
    with start(lambda *_: Answer(413)) as source:
        assert studies_of(source) == ([], 0, "it answered QIDO-RS with status 413")


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[1]", b'[{"0020000D": '])
def test_something_else_is_no_list(start, body):
    with start(lambda *_: Answer(200, {}, body)) as source, pytest.raises(DestinationUnavailable, match="than a list"):
        studies_of(source)


@pytest.mark.parametrize("element", [None, 1, {}, {"Value": []}, {"Value": [None]}, {"Value": "1.2"}, {"Value": [{}]}])
def test_an_element_without_a_value_is_empty(start, element):
    content = json.dumps([{"0020000D": {"Value": ["1.2.1"]}, "00080020": element, "00201208": element}]).encode()
    with start(lambda *_: Answer(200, {}, content)) as source:
        (study,) = studies_of(source).found
    assert (study.study_instance_uid, study.images) == ("1.2.1", None)


def test_series_and_images(start):
    def answers(path, keys):
        if path.endswith("/instances"):
            return listed({"00080018": "1.2.1.1.1", "00080016": "1.2.3"}, {"00080018": "../1"})
        return listed({"0020000E": "1.2.1.1", "00201209": 1})

    with start(answers) as source:
        assert source.series("1.2.1").found == [RemoteSeries("1.2.1", "1.2.1.1", 1)]
        images = source.images(RemoteSeries("1.2.1", "1.2.1.1", 1)).found
    assert images == [RemoteImage(InstanceKey("1.2.1", "1.2.1.1", "1.2.1.1.1"), "1.2.3")]


class Taken:
    """Takes images, as ``ports.Begin``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.kept, self.headings, self._error = list[bytes](), list[Heading](), error

    def __call__(self, heading):
        self.headings.append(heading)
        self._content = b""
        return self

    def write(self, data):
        self._content += data

    def accept(self):
        if self._error:
            raise self._error
        self.kept.append(self._content)

    def discard(self):
        pass


def test_an_image_comes_as_it_is_stored(start):
    taken = Taken()
    with start(lambda *_: wado(CT.file_bytes())) as source:
        assert source.fetch_series(SERIES, [IMAGE], taken) == ""
    assert taken.kept == [CT.data_set]
    (heading,) = taken.headings
    assert (heading.sop_class_uid, heading.sop_instance_uid) == (CT.sop_class_uid, CT.sop_instance_uid)
    assert heading.transfer_syntax_uid == CT.transfer_syntax_uid


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(404), "has no image"),
        (Answer(500), "answered WADO-RS with status 500"),
        (wado(b"no file" * 100), "no DICOM file"),
        (wado(b""), "gives an empty file"),
        (wado(CT.file_bytes(), end=b""), "without its closing boundary"),
    ],
)
def test_what_is_not_given_whole_is_not_kept(start, answer, words):
    taken = Taken()
    with start(lambda *_: answer) as source:
        assert words in source.fetch_image(IMAGE, taken)
    assert taken.kept == []


def test_an_image_that_breaks_off_is_not_kept(start):
    taken, whole = Taken(), wado(CT.file_bytes())
    whole.breaks_after = len(whole.body) - 100
    with start(lambda *_: whole) as source, pytest.raises(InstanceUnconfirmed):
        source.fetch_image(IMAGE, taken)
    assert taken.kept == []


def test_another_image_than_was_asked_for_is_told(start):
    with start(lambda *_: wado(CT.file_bytes())) as source:
        assert source.fetch_image(IMAGE, Taken(InvalidDataSet("another image"))) == "another image"


def test_a_series_whose_images_are_not_listed_cannot_be_fetched(start):
    with start(lambda *_: Answer(204)) as source:
        assert "does not list the images" in source.fetch_series(SERIES, [], Taken())
