"""Search: every way in which people type what they look for, page by page."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from backup_scp.dicom.readable_values import readable_date, readable_name
from backup_scp.index.reading import newest
from backup_scp.machine import clock
from backup_scp.web.pages import study_search
from tests.samples import dx, encode
from tests.stored import FIRST_ARRIVAL

TODAY = clock.now().astimezone()
UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}


def put(stored, number: int, **elements) -> str:
    """Store a study; return its UID."""
    elements = {"StudyDate": f"{TODAY:%Y%m%d}", "StudyTime": "000001"} | UTF8 | elements
    stored.put(encode(dx(study=str(number), series=str(number), number=number, **elements)), number)
    return str(dx(study=str(number)).StudyInstanceUID)


@pytest.fixture
def studies(stored) -> dict[str, str]:
    """Return the UIDs of some studies by a short name."""
    return {
        "jorg": put(stored, 1, PatientName="Müller^Jörg=山田^太郎", PatientID="4711", AccessionNumber="A100"),
        "anna": put(stored, 2, PatientName="Smith^Anna Maria", PatientID="47", PatientBirthDate="19700131"),
        "ct": put(stored, 3, PatientName="García^José", PatientID="X9", Modality="CT", StudyDate="20240229"),
        "old": put(stored, 4, PatientName="Ng^Li", PatientID="P4", StudyDate="19991231", AccessionNumber="4711"),
    }


@pytest.fixture
def names(pages, studies):
    """Return ``names(**fields)``: the short names of the studies on the page that they lead to, in its order."""

    def names(**fields: str) -> list[str]:
        answer = pages.get("/studies", params={name: text for name, text in fields.items() if text})
        assert answer.status_code == 200
        short = {uid: name for name, uid in studies.items()}
        return [short[found] for found in re.findall(r'<a href="/study\?uid=([\d.]+)"', answer.text)]

    return names


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", {"jorg", "anna", "ct", "old"}),
        ("mul", {"jorg"}),
        ("jor mul", {"jorg"}),
        ("Müller, Jörg", {"jorg"}),
        ("MULLER^JORG", {"jorg"}),
        ("山田", {"jorg"}),
        ("maria smith", {"anna"}),
        ("4711", {"jorg", "old"}),  # a Patient ID, and an Accession Number
        ("47", {"anna"}),  # two characters: exactly this one
        ("471", {"jorg", "old"}),
        ("a100", set()),
        ("A100", {"jorg"}),
        ("1970-01-31", {"anna"}),
        ("31.01.1970", {"anna"}),
        ("31/1/1970 smi", {"anna"}),
        ("20240229", {"ct"}),
        ("2024-02-30", set()),  # no day
        ("00010203", set()),  # a Patient ID
        ("ct", {"ct"}),
        ("garcia ct", {"ct"}),
        ("garcia dx", set()),
        ("ct dx", set()),
        ("ng", {"old"}),
        ("li ng 19991231", {"old"}),
        ("*", {"jorg", "anna", "ct", "old"}),
        ("m*", {"jorg", "anna"}),
        ("'\" OR 1=1 --", set()),
        ("mul \\ x", set()),
        ("\x00", set()),
        ("a " * 300, {"anna"}),
    ],
)
def test_one_field_finds_it(names, typed, expected):
    assert set(names(q=typed)) == expected


def test_few_letters_in_all_years_when_asked_for(names, pages, monkeypatch):
    monkeypatch.setattr(newest, "TESTED", 2)
    assert "years=all" in pages.get("/studies?q=ng").text
    assert names(q="ng") == []
    assert names(q="ng", years="all") == ["old"]
    assert "years=all" not in pages.get("/studies?q=smith").text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"patient_id": "4711"}, {"jorg"}),
        ({"accession": "471"}, {"old"}),
        ({"born": "1970-01-31"}, {"anna"}),
        ({"until": "2000-01-01"}, {"old"}),
        ({"since": "2024-01-01", "until": "2024-12-31"}, {"ct"}),
        ({"modality": "CT"}, {"ct"}),
        ({"modality": "CT", "q": "garcia"}, {"ct"}),
        ({"when": "today"}, {"jorg", "anna"}),
        ({"when": "today", "q": "smith"}, {"anna"}),
        ({"q": "20240229", "since": "2024-03-01"}, set()),
        ({"q": "20240229", "since": "2024-02-01"}, {"ct"}),
    ],
)
def test_further_fields_narrow(names, fields, expected):
    assert set(names(**fields)) == expected


def test_the_newest_come_first_also_from_several_queries(names):
    assert names(q="4711") == ["jorg", "old"]
    assert names()[2:] == ["ct", "old"]


class TestNew:
    """What came since somebody pressed "I have seen all", whenever it was made."""

    @pytest.fixture
    def come(self, stored):
        def come(image: int, ago: timedelta, **elements) -> None:
            sample = encode(dx(study=str(image // 10), series=str(image), number=image, **UTF8, **elements))
            stored.put(sample, int((clock.now() - ago - FIRST_ARRIVAL).total_seconds()))

        come(10, timedelta(days=3), PatientName="Seen^A", StudyDate=f"{TODAY:%Y%m%d}")
        come(20, timedelta(hours=1), PatientName="Old^B", StudyDate="19991231")
        return come

    @pytest.fixture
    def new(self, pages):
        def new(ago: timedelta) -> list[str]:
            seen_at = {"Cookie": f"backup-scp-seen={(clock.now() - ago).isoformat()}"}
            return re.findall(r"<strong>(Old|Seen), ", pages.get("/studies?when=unread", headers=seen_at).text)

        return new

    def test_an_old_study_that_came_today_is_new(self, new, come):
        assert new(timedelta(hours=2)) == ["Old"]
        assert new(timedelta(minutes=30)) == []
        assert new(timedelta(hours=1)) == ["Old"], "an image is received for some time before it can be found"

    def test_a_seen_study_that_gets_an_image_is_new(self, new, come):
        come(11, timedelta(), PatientName="Seen^A")
        assert new(timedelta(minutes=30)) == ["Seen"]

    def test_the_button_notes_when_the_list_was_made(self, pages, come):
        text = pages.get("/studies?when=unread").text
        form = dict(re.findall(r'name="(token|at)" value="([^"]+)"', text))
        answer = pages.post("/studies/seen", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/studies?when=unread")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=strict" in answer.headers["set-cookie"]
        assert form["at"] in answer.headers["set-cookie"]
        for wrong in ("", "x", "2999-01-01T00:00:00+00:00", "2026-01-01"):
            noted = pages.post("/studies/seen", data=form | {"at": wrong}).headers["set-cookie"]
            noted_at = datetime.fromisoformat(re.search(r"seen=([^;]+)", noted).group(1).strip('"'))  # type: ignore[union-attr]
            assert abs(clock.now() - noted_at) < timedelta(minutes=5)


@pytest.mark.parametrize("cookie", ["x", "2026-01-01", "9" * 5000, '"<script>'])
def test_a_wrong_cookie_is_none(pages, studies, cookie):
    answer = pages.get("/studies?when=unread", headers={"Cookie": f"backup-scp-seen={cookie}"})
    assert answer.status_code == 200
    assert "What came today" in answer.text


class TestForms:
    """A form counts only when a page of ours sent it."""

    @pytest.mark.parametrize(
        ("headers", "data", "status"),
        [
            ({}, {"other": "x"}, 403),
            ({}, {"token": "x"}, 403),
            ({}, {"token": "\ud800é".encode("utf-8", "replace").decode()}, 403),
            ({"Origin": "https://evil.example"}, None, 403),
            ({"Origin": "null"}, None, 403),
            ({"Sec-Fetch-Site": "cross-site"}, None, 403),
            ({"Content-Type": "text/plain"}, None, 415),
            ({"Content-Type": "multipart/form-data; boundary=x"}, None, 415),
            ({}, {"token": "x" * 300_000}, 413),
        ],
    )
    def test_any_other_is_refused(self, pages, headers, data, status):
        if data is None:
            text = pages.get("/studies?when=unread").text
            data = {"token": re.search(r'name="token" value="([^"]+)"', text).group(1)}  # type: ignore[union-attr]
        answer = pages.post("/studies/seen", data=data, headers=headers)
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers


class TestPages:
    @pytest.fixture
    def three(self, stored, monkeypatch):
        monkeypatch.setattr(study_search, "PAGE", 1)
        monkeypatch.setattr(study_search, "MOST_PAGES", 2)
        for number in range(1, 4):
            put(stored, number, PatientName=f"N{number}^X", StudyDate=f"2024010{number}")

    def test_page_by_page_to_a_limit(self, pages, three):
        first = pages.get("/studies?q=x&years=all").text
        assert "N3, X" in first
        second = pages.get(re.search(r'href="([^"]+)" rel="next"', first).group(1).replace("&amp;", "&")).text  # type: ignore[union-attr]
        assert "N2, X" in second
        assert 'rel="next"' not in second
        assert "There are more" in second

    @pytest.mark.parametrize("page", ["0", "-1", "x", "1000000", "²"])
    def test_a_page_that_is_none(self, pages, three, page):
        assert pages.get("/studies", params={"page": page}).status_code == 200


def test_markup_is_shown_as_text_everywhere(pages, stored):
    bad = '<img src=x onerror="a">'
    put(stored, 1, PatientName=bad, PatientID=bad, AccessionNumber="<b>", StudyDescription=bad)
    for address in ("/studies?q=%3Cimg", "/studies", f"/studies?q={'%22%3E%3Cscript%3E'}"):
        text = pages.get(address).text
        assert "<img src=x" not in text
        assert "<script>" not in text
    assert "&lt;img src=x" in pages.get("/studies").text


def test_a_uid_with_markup_or_a_slash_has_an_address(pages, stored):
    stored.put(encode(dx(StudyInstanceUID='1/2"><b>')))
    text = pages.get("/studies").text
    assert "/dicom-web/studies/1%2F2%22%3E%3Cb%3E/thumbnail" in text
    address = re.search(r'href="(/study\?uid=[^"]+)"', text).group(1)  # type: ignore[union-attr]
    answer = pages.get(address)
    assert answer.status_code == 200
    assert "<b>" not in answer.text


def test_only_the_list_for_the_script(pages, studies):
    text = pages.get("/studies?q=mul&part=list").text
    assert "<html" not in text
    assert "Müller, Jörg · 山田, 太郎" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("A^B^C^Dr", "A, B C"), ("A", "A"), ("", ""), ("A^^=^", "A"), ("A^B=山^田", "A, B · 山, 田"), ("^B", "B")],
)
def test_names_as_people_write_them(name, expected):
    assert readable_name(name) == expected


def test_dates_as_people_write_them():
    assert readable_date("20240102") == "2024-01-02"
    assert readable_date("<2024>") == "<2024>"
