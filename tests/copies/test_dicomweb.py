"""DICOMweb: what counts as stored, and what a server may do wrong (PS3.18 10.4, 10.5)."""

from __future__ import annotations

import dataclasses
import ssl
from itertools import cycle

import pytest
import trustme

from backup_scp.copies.dicomweb import dicomweb_copy
from backup_scp.errors import (
    DestinationBusy,
    DestinationRefuses,
    DestinationUnavailable,
    DigestMismatch,
    InvalidSettings,
)
from backup_scp.node.copy_places import open_place
from backup_scp.ports import CopyItem
from tests.copies.contract import CopyPlaceContract, fetched, small_archive, until_away
from tests.copies.dicomweb_server import Answer, Server, stow, wado
from tests.processes import free_port
from tests.samples import ct_series, data_set_of, dx, encode, one_of_each, with_pixels
from tests.stored import stored_in
from tests.system.here import Here, proofs

CT = [encode(ds) for ds in ct_series(3)]
EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
BIG_OF_ANOTHER_STUDY = encode(with_pixels(dx(study="77"), 1200, 1000))
BIG = encode(with_pixels(dx(), 1200, 1000))


@pytest.fixture
def here(tmp_path):
    with stored_in(tmp_path) as stored:
        yield Here(tmp_path, stored)


@pytest.fixture
def start():
    made = []

    def run(**behaviour) -> Server:
        made.append(Server(**behaviour))
        return made[-1]

    yield run
    for server in made:
        server.close()


class TestContract(CopyPlaceContract):
    """It keeps one version of an image, and File Meta is not compared."""

    @pytest.fixture
    def made(self, tmp_path):
        samples = (encode(ds, syntax) for ds, syntax in zip(one_of_each(), cycle((EXPLICIT, IMPLICIT)), strict=False))
        return small_archive(tmp_path / "made", [*samples, encode(dx(study="9"), DEFLATED), BIG_OF_ANOTHER_STUDY])

    def archived(self, made, item):
        return data_set_of(made.bytes_of(item))

    def fetched(self, place, item):
        return data_set_of(fetched(place, item))

    @pytest.fixture
    def open_place(self, here, start):
        self.server = start()
        here.configure(self.server.url)
        return lambda: open_place(here.settings, here.settings.copy[0], here.stored.index)

    def flip(self, stored_name):
        content = bytearray(self.server.kept[stored_name])
        content[-1] ^= 1
        self.server.kept[stored_name] = bytes(content)

    def remove(self, stored_name):
        del self.server.kept[stored_name]


def copied_to(here, server, *samples, **settings):
    here.configure(server.url, **settings)
    return here.copy(here.put(*samples))


def test_small_files_share_a_request_and_each_is_read_back(here, start):
    server = start()
    assert proofs(copied_to(here, server, *CT, BIG)) == ["read back"] * 4
    assert sorted(server.shared) == [1, 3]
    assert server.part_headers == {b"Content-Type: application/dicom"}
    assert [method for method, _ in server.asked].count("GET") == 1 + 4


def test_a_request_takes_no_more_than_its_share(here, start, monkeypatch):
    monkeypatch.setattr(dicomweb_copy, "_MOST_FILES", 2)
    server = start()
    assert proofs(copied_to(here, server, *CT)) == ["read back"] * 3
    assert server.shared == [2, 1]


def test_one_failure_loses_no_other(here, start):
    bad = CT[1].sop_instance_uid

    def meddle(method, _path, _headers, answer):
        if method == "POST" and bad in answer.body.decode():
            others = [] if server.shared[-1] == 1 else [CT[0].sop_instance_uid]
            return stow(others, {bad: 0xA900}, 409)
        return answer

    server = start(meddles=meddle)
    copied = copied_to(here, server, *CT)
    assert [bool(copied[sample.sha256].stored) for sample in CT] == [True, False, True]
    assert copied[CT[1].sha256].error == f"Image {bad}: Copy away did not take it: Failure Reason 0xA900"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stow([]), "answered STOW-RS with status 200 and did not say that it has it"),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>"), "did not say that it has it"),
        (Answer(200, {}, b'{"00081199": 7}'), "did not say that it has it"),
        (Answer(200, {}, b"[]"), "did not say that it has it"),
        (stow([CT[0].sop_instance_uid], {CT[0].sop_instance_uid: 0x0110}), "Failure Reason 0x0110"),
        (Answer(413), "answered STOW-RS with status 413"),
        (Answer(500), "answered STOW-RS with status 500"),
    ],
)
def test_only_the_name_in_the_answer_counts(here, start, answer, words):
    server = start(meddles=lambda method, _path, _headers, real: answer if method == "POST" else real)
    (sentence,) = proofs(copied_to(here, server, CT[0]))
    assert words in sentence


def test_referenced_with_status_409_is_stored(here, start):
    server = start(
        meddles=lambda method, _path, _headers, real: (
            dataclasses.replace(real, status=409) if method == "POST" else real
        )
    )
    assert proofs(copied_to(here, server, CT[0])) == ["read back"]


def instance(change):
    """Change the answer to WADO-RS of an instance."""

    def meddle(_method, path, _headers, answer):
        return change(answer) if "/instances/" in path else answer

    return meddle


WRONG = {
    "other content": (lambda _: wado(CT[1].file_bytes()), "gives back another content"),
    "a flipped bit": (
        lambda answer: dataclasses.replace(answer, body=answer.body[:-30] + b"\xa5" * 10 + answer.body[-20:]),
        "gives back another content",
    ),
    "no closing boundary": (lambda answer: dataclasses.replace(answer, body=answer.body[:-5]), "closing boundary"),
    "half a body": (lambda answer: dataclasses.replace(answer, breaks_after=len(answer.body) // 2), "broke off"),
    "half of it, well ended": (
        lambda answer: dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2]),
        "closing boundary",
    ),
    "no multipart": (
        lambda answer: dataclasses.replace(answer, headers={"Content-Type": "application/dicom"}),
        "no multipart message",
    ),
    "no file": (lambda _: wado(b"x" * 1000), "no DICOM file"),
    "two parts": (
        lambda answer: dataclasses.replace(answer, body=answer.body[:-11] + b"\r\n--abc\r\n\r\nx\r\n--abc--\r\n"),
        "second part",
    ),
    "nothing": (lambda _: Answer(404), "has no image"),
    "not acceptable": (lambda _: Answer(406), "answered WADO-RS with status 406"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_comes_back_wrong_is_not_there(here, start, wrong):
    change, words = WRONG[wrong]
    server = start()
    copied = copied_to(here, server, BIG)
    assert proofs(copied) == ["read back"]
    server.meddles = instance(change)
    held = list(here.stored.index.versions())
    again, compared = here.copy(held), here.compare(held, copied)
    for results in (again, compared):
        (result,) = results.values()
        assert result.stored is None
        assert words in result.error
        assert not result.is_left_out


def test_a_connection_that_breaks_once_is_tried_again(here, start):
    breaks = iter([True])

    def change(answer):
        return dataclasses.replace(answer, breaks_after=99) if next(breaks, False) else answer

    assert proofs(copied_to(here, start(meddles=instance(change)), BIG)) == ["read back"]


def test_a_proxy_is_asked_for_what_the_server_has_now(here, start):
    asked = []

    def note(method, _path, headers, answer):
        asked.append((method, headers["Cache-Control"]))
        return answer

    copied_to(here, start(meddles=note), CT[0])
    assert set(asked) == {("GET", "no-cache"), ("POST", "no-cache")}


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_is_told(here, start, status):
    server = start(meddles=lambda *_: Answer(status))
    with pytest.raises(DestinationRefuses, match=f"does not let us in .status {status}."):
        copied_to(here, server, CT[0])


def test_credentials_come_from_files(here, start):
    server = start()
    (here.folder / "password").write_text("se:cret\nx")
    (here.folder / "token").write_text("abc\n")
    copied_to(here, server, CT[0], user="clinic", password_file="password")
    assert {said for _, said in server.asked} == {"Basic Y2xpbmljOnNlOmNyZXQ="}
    server.asked.clear()
    copied_to(here, server, CT[1], token_file=str(here.folder / "token"))
    assert {said for _, said in server.asked} == {"Bearer abc"}


def test_credentials_follow_no_redirect(here, start):
    other = start()
    server = start(meddles=lambda *_: Answer(307, {"Location": other.url.removeprefix("dicomweb+") + "/studies"}))
    (here.folder / "token").write_text("abc\n")
    with pytest.raises(DestinationRefuses, match="another address"):
        copied_to(here, server, CT[0], token_file="token")
    assert other.asked == []


def test_a_server_that_is_busy_for_a_moment_is_asked_again(here, start):
    busy = iter([True, False, True])

    def meddle(_method, _path, _headers, answer):
        return Answer(503, {"Retry-After": "0"}) if next(busy, False) else answer

    assert proofs(copied_to(here, start(meddles=meddle), CT[0])) == ["read back"]


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}])
def test_a_server_that_is_busy_for_long_is_left_alone(here, start, headers):
    server = start(meddles=lambda *_: Answer(503, headers))
    with pytest.raises(DestinationBusy, match="is busy"):
        copied_to(here, server, CT[0])
    assert len(server.asked) == 1


def test_a_server_that_is_off(here):
    here.configure(f"dicomweb+http://127.0.0.1:{free_port()}/x")
    held = here.put(CT[0])
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        here.copy(held)


def test_a_server_that_breaks_off_each_time_is_away(here, start):
    server = start()

    def meddle(method, _path, _headers, answer):
        return dataclasses.replace(answer, breaks_after=1) if method == "POST" else answer

    server.meddles = meddle
    with pytest.raises(DestinationUnavailable, match="broke off"):
        copied_to(here, server, *CT)
    items = [CopyItem(number, one) for number, one in enumerate(here.stored.index.versions())]
    with here.place() as place:
        results = until_away(place.put(items, lambda one: here.stored.archive.read(one.location)))
    assert [result.stored for result in results] == [None, None]  # the next turn need not begin with them


def test_tls_with_the_ca_of_the_settings(here, start):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(here.folder / "ca.pem")
    server = start(tls=context)
    assert proofs(copied_to(here, server, CT[0], ca="ca.pem")) == ["read back"]
    with pytest.raises(DestinationRefuses, match="its certificate is not trusted here"):
        copied_to(here, server, CT[1])


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("dicomweb+http://pacs.example/x", {}, "http is for this computer alone"),
        ("dicomweb+https://me:secret@pacs.example/x", {}, "write HOST and PATH alone"),
        ("dicomweb+https://:secret@pacs.example/x", {}, "write HOST and PATH alone"),
        ("dicomweb+https://pacs.example/x", {"password_file": "none"}, "password_file: none cannot be read"),
        ("dicomweb+https://pacs.example/x", {"token_file": "empty"}, "token_file: empty is empty"),
    ],
)
def test_settings_that_cannot_work(here, url, settings, words):
    (here.folder / "empty").touch()
    here.configure(url, **settings)
    with pytest.raises(InvalidSettings, match=words):
        open_place(here.settings, here.settings.copy[0], here.stored.index)


def test_what_is_fetched_is_compared(here, start):
    server = start()
    copied = copied_to(here, server, BIG)
    (held,) = here.stored.index.versions()
    assert here.fetch(held, copied) == BIG.data_set
    server.meddles = instance(WRONG["a flipped bit"][0])
    with pytest.raises(DigestMismatch):
        here.fetch(held, copied)
