"""Share links in a browser: made on the page, opened on another computer, and nothing more than one study."""

from __future__ import annotations

import io
import re
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from backup_scp.ports import SEES_ALL, AuditKind, Role, SiteScope
from backup_scp.services.parcels import ParcelKind
from backup_scp.services.permissions import LINK_RIGHTS, RIGHTS, ROLE_RIGHTS, CallerKind, Right
from backup_scp.services.share_links import MOST_FAILURES, ShareLinks
from backup_scp.services.user_changes import Actor
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.pages.page_table import PAGES
from backup_scp.web.pages.page_texts import FOR_PATIENTS, languages
from backup_scp.web.sharing import shared_frame
from backup_scp.web.sharing.share_table import SHARE_PAGES
from tests.samples import ct_series, dx, encapsulated_pdf, encode, structured_report, with_pixels
from tests.web.conftest import HOST
from tests.web.pages.conftest import ELSEWHERE, accounts, make_pages, orders, patience, settings  # noqa: F401 - fixtures
from tests.web.pages.test_login_pages import BY, add, form_of, log_in, stored_hash  # noqa: F401 - fixtures

SHOWN = with_pixels(
    dx(PatientName="MUSTER^ERIKA", PatientID="P4711", StudyDescription="Knee left", AccessionNumber="A99")
)
OTHER = with_pixels(dx(study="other", PatientName="OTHER^OTTO", PatientID="P5"))
SECRETS = (
    "MUSTER",
    "ERIKA",
    "Muster",
    "Erika",
    "P4711",
    "Knee",
    "A99",
    SHOWN.StudyInstanceUID,
    "north",
    "Dr. Who",
    "maria",
)
TEMPLATES = Path(shared_frame.__file__).parent / "templates"
SEES_SOUTH = SiteScope.of(["south"])
EVERY = [page for page in SHARE_PAGES if page.right is not None]


@pytest.fixture
def shares(accounts, stored) -> ShareLinks:  # noqa: F811
    stored.put(encode(SHOWN), site="north")
    stored.put(encode(OTHER), 1, site="north")
    return ShareLinks(accounts, stored.index)


@pytest.fixture
def make(shares):
    """Return ``make(may_save, study)``: a new link."""
    return lambda may_save=True, study=SHOWN.StudyInstanceUID: shares.make(
        study, "north", "Dr. Who", 30, Actor("maria"), may_save=may_save
    )


@pytest.fixture
def phone(make_pages):  # noqa: F811
    """A browser on another computer."""
    return make_pages(address=ELSEWHERE)


def filled(path: str, token: str, ds=SHOWN) -> str:
    uids = {"series": ds.SeriesInstanceUID, "instance": ds.SOPInstanceUID}
    return re.sub("{(.*?)}", lambda found: uids.get(found[1], token), path)


def open_link(client, made, pin: str = "", **headers: str):
    path = f"/share/{made.token}"
    return client.post(path, data=form_of(client, path) | {"pin": pin or made.pin}, headers=headers)


def wrong(made) -> str:
    return f"{(int(made.pin) + 1) % 1_000_000:06}"


class TestBeforeThePin:
    @pytest.mark.parametrize("language", ["en", "de", "es"])
    def test_nothing_tells_of_a_patient_or_a_study(self, phone, make, language):
        page = phone.get(f"/share/{make().token}", headers={"Accept-Language": language})
        everything = page.text + repr(page.headers)
        assert page.status_code == 200
        assert f'<html lang="{language}">' in page.text
        assert [secret for secret in SECRETS if secret in everything] == []

    def test_pages_of_two_studies_differ_in_nothing_but_their_address(self, phone, make):
        one, two = make(), make(may_save=False, study=OTHER.StudyInstanceUID)
        pages = [phone.get(f"/share/{made.token}") for made in (one, two)]
        assert pages[0].text.replace(one.token, "") == pages[1].text.replace(two.token, "")
        assert pages[0].headers == pages[1].headers

    @pytest.mark.parametrize("page", EVERY, ids=lambda page: page.path)
    def test_every_other_page_leads_to_the_pin(self, phone, make, page):
        path = filled(page.path, make().token)
        answer = phone.get(path)
        assert (answer.status_code, answer.content) == (303, b"")
        assert answer.headers["location"] == path.partition("/share/")[1] + path.split("/")[2]

    def test_unknown_ended_revoked_and_gone_get_the_same_answer(self, phone, make, shares, clock):
        revoked, ended = make(), make()
        form = form_of(phone, f"/share/{revoked.token}")
        shares.revoke(revoked.link.number, SEES_ALL, BY)
        clock.jump(days=31)
        answers = set()
        for token, pin in (
            ("x" * 43, "1"),
            (revoked.token, revoked.pin),
            (ended.token, ended.pin),
            ("unknown-link", ended.pin),
        ):
            shown = phone.get(f"/share/{token}")
            sent = phone.post(f"/share/{token}", data=form | {"pin": pin})
            for answer in (shown, sent):
                headers = {name: text for name, text in answer.headers.items() if name != "content-length"}
                answers.add((answer.status_code, answer.text.replace(token, "TOKEN"), repr(headers)))
        assert len(answers) == 1
        assert "does not work" in answers.pop()[1]

    @pytest.mark.parametrize(
        "path",
        ["/share/", "/share", "/share/x/y", "/share/x/../../studies", "/share/%2e%2e/studies", "/share/x/study/"],
    )
    def test_other_paths(self, phone, make, path):
        assert phone.get(path).status_code in {404, 303, 401}
        assert "MUSTER" not in phone.get(path).text


class TestOpened:
    def test_one_study_and_its_picture(self, phone, make):
        made = make()
        answer = open_link(phone, made)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/share/{made.token}/study")
        page = phone.get(answer.headers["location"]).text
        assert "MUSTER, ERIKA" in page
        assert "Knee left" in page
        assert "OTHER" not in page
        (small,) = re.findall(r'<img src="([^"]+)"', page)
        (image,) = re.findall(r'<a href="([^"]+/image/[^"]+)"', page)
        (whole,) = re.findall(r'src="([^"]+/whole/[^"]+)"', phone.get(image).text)
        for path, longest in ((small, 320), (whole, 32)):
            picture = phone.get(path)
            assert picture.headers["content-type"] == "image/jpeg"
            assert max(Image.open(io.BytesIO(picture.content)).size) == longest
        assert phone.get(f"/share/{made.token}").headers["location"].endswith("/study")

    def test_the_cookie_is_of_this_link_alone(self, make_pages, make):  # noqa: F811
        made = make()
        phone = make_pages(WebOptions(public_url="https://pacs.example/backup"), ELSEWHERE)
        token = re.findall(r'name="token" value="([^"]+)"', phone.get(f"/share/{made.token}").text)[0]
        answer = phone.post(f"/share/{made.token}", data={"token": token, "pin": made.pin})
        name, _, attributes = answer.headers["set-cookie"].partition("=")
        assert name == "__Secure-backup-scp-share"
        wanted = {"httponly", "secure", "samesite=strict", f"path=/backup/share/{made.token}".lower()}
        assert wanted <= set(attributes.lower().split("; "))
        assert not {"domain", "max-age", "expires"} & set(re.findall(r"[a-z-]+(?==)", attributes.lower()))
        assert answer.headers["location"] == f"/backup/share/{made.token}/study"

    @pytest.mark.parametrize("page", EVERY, ids=lambda page: page.path)
    def test_what_was_opened_opens_no_other_link_and_no_other_study(self, phone, make, page):
        one, two = make(), make(study=OTHER.StudyInstanceUID)
        open_link(phone, one)
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in phone.cookies.items())}
        phone.cookies.clear()
        assert phone.get(filled(page.path, two.token), headers=cookie).status_code == 303
        if "{series}" in page.path or "{instance}" in page.path:
            assert phone.get(filled(page.path, one.token, OTHER), headers=cookie).status_code == 404

    def test_it_is_no_login(self, phone, make, add):  # noqa: F811
        """The matrix of rights: a link's cookie at each route of the node, also where no browser sends it."""
        add("maria")
        open_link(phone, make())
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in phone.cookies.items())}
        phone.cookies.clear()
        token = cookie["Cookie"].partition("=")[2]
        for headers in (cookie, {"Cookie": f"backup-scp={token}"}, {"Authorization": f"Bearer {token}"}):
            routes = [(page.method, page.path) for page in PAGES if page.right is not None]
            routes += [(route.method, f"{BASE_PATH}{route.path}") for route in ROUTES]
            for method, path in routes:
                answer = phone.request(
                    method, filled(path.replace(":path", ""), "x"), headers=headers | {"Sec-Fetch-Mode": "cors"}
                )
                assert answer.status_code == 401, path

    def test_no_login_token_or_computer_opens_a_link_without_its_pin(self, make_pages, make, add):  # noqa: F811
        made = make()
        add("maria", Role.ADMINISTER)
        user = make_pages(address=ELSEWHERE)
        log_in(user, "maria")
        program = make_pages(WebOptions(tokens=frozenset({"t" * 32})), ELSEWHERE)
        program.headers["Authorization"] = "Bearer " + "t" * 32
        for browser in (user, program, make_pages()):
            for page in EVERY:
                assert browser.get(filled(page.path, made.token)).status_code == 303
            assert "MUSTER" not in browser.get(f"/share/{made.token}").text

    def test_it_ends_at_once(self, phone, make, shares):
        made = make()
        study = open_link(phone, made).headers["location"]
        small = re.findall(r'<img src="([^"]+)"', phone.get(study).text)[0]
        shares.revoke(made.link.number, SEES_ALL, BY)
        assert [phone.get(path).status_code for path in (study, small, f"/share/{made.token}")] == [303, 303, 404]

    def test_it_ends_with_its_time_and_with_close(self, phone, make, clock):
        made = make()
        study = open_link(phone, made).headers["location"]
        clock.jump(minutes=61)
        assert phone.get(study).headers["location"] == f"/share/{made.token}"
        open_link(phone, made)
        cookies = dict(phone.cookies)
        closed = phone.post(f"/share/{made.token}/end", data=form_of(phone, study))
        assert closed.headers["location"] == f"/share/{made.token}"
        phone.cookies.update(cookies)
        assert phone.get(study).status_code == 303

    def test_it_dies_with_its_study(self, phone, make, make_pages, accounts, stored, tmp_path):  # noqa: F811
        """Removed from view: the index has it no more."""
        made = make()
        study = open_link(phone, made).headers["location"]
        gone = ShareLinks(accounts, stored.index.seen_by(SEES_SOUTH))
        assert gone.shared(made.token) is None
        assert phone.get(study).status_code == 200

    def test_series_in_pages_frames_documents_and_what_has_no_picture(self, phone, make, stored):
        slices = [with_pixels(ds) for ds in ct_series(30, study="ct")]
        study = slices[0].StudyInstanceUID
        for number, ds in enumerate([*slices, encapsulated_pdf(study="ct"), structured_report(study="ct")]):
            stored.put(encode(ds), 10 + number, site="north")
        run = with_pixels(dx(study="ct", series="run", number=900), frames=3)
        stored.put(encode(run), 90, site="north")
        made = make(study=study)
        page = phone.get(open_link(phone, made).headers["location"]).text
        assert ("Show all 30 images" in page, "1 items of this series have no picture" in page) == (True, True)
        document = phone.get(re.findall(r'href="([^"]+/document/[^"]+)"', page)[0])
        assert (document.headers["content-type"], document.content[:5]) == ("application/pdf", b"%PDF-")
        assert document.headers["content-disposition"] == 'inline; filename="document.pdf"'
        series = phone.get(f"/share/{made.token}/series/{slices[0].SeriesInstanceUID}").text
        assert series.count("<img") == 24
        last = phone.get(re.findall(r'href="([^"]+page=2)"', series)[0]).text
        assert (last.count("<img"), "page=3" in last, 'alt="Image 30"' in last) == (6, False, True)
        image = f"/share/{made.token}/series/{run.SeriesInstanceUID}/image/{run.SOPInstanceUID}"
        assert "Frame 2 of 3" in phone.get(f"{image}?frame=2").text
        for wanted, status in (("3", 200), ("4", 404), ("0", 404), ("x", 404), ("²", 404)):
            for path in (image, f"/share/{made.token}/whole/{run.SOPInstanceUID}"):
                assert phone.get(path, params={"frame": wanted}).status_code == status


class TestSaved:
    def test_the_images_of_this_study_and_no_name(self, phone, make, accounts):  # noqa: F811
        made = make()
        page = phone.get(open_link(phone, made).headers["location"], headers={"Accept-Language": "de"}).text
        paths = re.findall(r'href="([^"]+/save/[^"]+)"', page)
        assert len(paths) == len(ParcelKind)
        answer = phone.get(paths[0])
        assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/zip", "no-store")
        german = phone.get(f"{paths[0]}?lang=de").content
        assert "RÖNTGENBILDER" in zipfile.ZipFile(io.BytesIO(german)).read("README.TXT").decode()
        assert not [secret for secret in SECRETS if secret in repr(answer.headers)]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            images = [archive.read(name) for name in archive.namelist()]
        assert (sum(b"MUSTER" in image for image in images) >= 1, b"OTHER^OTTO" in b"".join(images)) == (True, False)
        assert accounts.events(1)[0].kind == AuditKind.SHARE_SAVED

    def test_not_by_a_link_to_look_at(self, phone, make):
        made = make(may_save=False)
        study = open_link(phone, made).headers["location"]
        assert "/save/" not in phone.get(study).text
        for kind in ParcelKind:
            assert phone.get(f"/share/{made.token}/save/{kind}").status_code == 403

    def test_not_without_end(self, phone, make):
        made = make()
        open_link(phone, made)
        path = f"/share/{made.token}/save/{ParcelKind.DICOM}"
        answers = [phone.get(path).status_code for _ in range(31)]
        assert (answers[:30], answers[30]) == ([200] * 30, 429)


class TestGuessedPin:
    def test_wrong_then_wait_then_locked_then_unlocked(self, phone, make, clock, accounts, shares):  # noqa: F811
        made = make()
        first = open_link(phone, made, wrong(made))
        assert (first.status_code, "This PIN is wrong" in first.text, "set-cookie" in first.headers) == (
            403,
            True,
            False,
        )
        for _ in range(100):
            answer = open_link(phone, made, wrong(made))
            if answer.status_code == 429:
                assert f"wait {answer.headers['retry-after']} seconds" in answer.text
                clock.jump(minutes=6)
            elif "locked" in answer.text:
                break
        assert answer.status_code == 403
        assert "locked" in open_link(phone, made).text
        shares.unlock(made.link.number, SEES_ALL, BY)
        clock.jump(minutes=6)  # its address has to wait as well
        assert open_link(phone, made).status_code == 303
        failed = [event for event in accounts.events(100) if event.kind == AuditKind.SHARE_FAILED]
        assert len(failed) == MOST_FAILURES
        assert {event.address for event in failed} == {ELSEWHERE}

    @pytest.mark.parametrize("pin", ["", "0" * 500, "１２３", "' OR 1=1", "\x00"])
    def test_odd_ones(self, phone, make, pin):
        made = make()
        form = form_of(phone, f"/share/{made.token}") | {"pin": pin}
        assert phone.post(f"/share/{made.token}", data=form).status_code == 403

    def test_with_a_blank_as_it_is_shown(self, phone, make):
        made = make()
        assert open_link(phone, made, f" {made.pin[:3]} {made.pin[3:]}").status_code == 303

    def test_by_a_browser_that_has_opened_it_before(self, phone, make):
        """Who comes from a mail again sends no cookie with the page (SameSite=Strict), but with the form."""
        made = make()
        path = f"/share/{made.token}"
        form = form_of(phone, path) | {"pin": made.pin}
        assert [phone.post(path, data=form).status_code for _ in range(2)] == [303, 303]

    def test_a_form_of_another_site(self, phone, make):
        made = make()
        form = form_of(phone, f"/share/{made.token}") | {"pin": made.pin}
        evil = {"Origin": "https://evil.example"}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}
        assert [phone.post(f"/share/{made.token}", data=form, headers=one).status_code for one in evil] == [403, 403]
        assert phone.post(f"/share/{made.token}", data=form | {"token": "x"}).status_code == 403
        own = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}  # of a page with no-referrer
        assert phone.post(f"/share/{made.token}", data=form, headers=own).status_code == 303
        assert phone.post("/login", data=form, headers=own).status_code == 403


class TestNothingLeaks:
    @pytest.fixture
    def answers(self, phone, make):
        made = make()
        paths = [f"/share/{made.token}", "/share/unknown", "/share/unknown/study", f"/share/{made.token}/nowhere"]
        answers = [phone.get(path) for path in paths]
        answers += [open_link(phone, made, wrong(made)), open_link(phone, made)]
        answers += [phone.get(filled(page.path, made.token)) for page in EVERY]
        return answers

    def test_headers_and_title_of_each_answer(self, answers):
        for answer in answers:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "noindex" in answer.headers["x-robots-tag"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "script" not in answer.headers["content-security-policy"]
            assert not {"etag", "last-modified"} & set(answer.headers)
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert re.findall("<title>(.*?)</title>", answer.text) == ["Medical images"]
                assert '<meta name="robots" content="noindex' in answer.text
                assert not re.findall(r'(?:src|href|action)="(?!/|#)|<script| style=| on[a-z]+=', answer.text)
            assert not [secret for secret in SECRETS if secret in repr(answer.headers)]

    def test_nothing_changes_with_a_request_that_asks_whether_it_changed(self, phone, make):
        made = make()
        study = open_link(phone, made).headers["location"]
        for path in (study, re.findall(r'<img src="([^"]+)"', phone.get(study).text)[0]):
            assert phone.get(path, headers={"If-None-Match": "*", "Range": "bytes=0-1"}).status_code == 200

    def test_no_error_has_a_value(self, phone, make, shares, monkeypatch):
        made = make()
        study = open_link(phone, made).headers["location"]
        monkeypatch.setattr("backup_scp.web.sharing.shared_pages.SharedStudy", SimpleNamespace(found=broken))
        answer = phone.get(study)
        assert (answer.status_code, "Something went wrong" in answer.text) == (500, True)
        assert "MUSTER" not in answer.text


def broken(*_):
    raise ValueError("MUSTER^ERIKA")


class TestManaged:
    @pytest.fixture
    def desk(self, make_pages, add, shares):  # noqa: F811
        """The browser of a user who may share at one clinic."""
        add("maria", Role.SHARE, "north")
        desk = make_pages(address=ELSEWHERE)
        log_in(desk, "maria")
        return desk

    def made_by(self, desk, **form: str):
        path = f"/shares/new?study={SHOWN.StudyInstanceUID}"
        given = {"do": "make", "study": SHOWN.StudyInstanceUID, "for": "Dr. Who", "days": "30", "save": "yes"}
        return desk.post("/shares", data=form_of(desk, path) | given | form)

    def test_made_opened_listed_and_revoked(self, desk, phone, accounts):  # noqa: F811
        assert (
            f'href="/shares/new?study={SHOWN.StudyInstanceUID}"'
            in desk.get(f"/study?uid={SHOWN.StudyInstanceUID}").text
        )
        page = self.made_by(desk, language="de")
        address = re.findall(r'id="link">([^<]+)<', page.text)[0]
        pin = re.findall(r'id="pin">([^<]+)<', page.text)[0]
        assert (address.startswith(f"{HOST}/share/"), "Ihre Bilder" in page.text, "<svg" in page.text) == (True,) * 3
        assert pin not in page.text.partition("slip")[2]
        made = SimpleNamespace(token=address.rpartition("/")[2], pin=pin)
        assert open_link(phone, made).status_code == 303
        listed = desk.get("/shares").text
        assert ("Dr. Who" in listed, "1 ×" in listed, made.token in listed) == (True, True, False)
        number = re.findall(r'name="link" value="(\d+)"', listed)[0]
        done = desk.post("/shares", data=form_of(desk, "/shares") | {"do": "revoke", "link": number})
        assert ("is revoked" in done.text, 'name="link"' in done.text) == (True, False)
        assert phone.get(f"/share/{made.token}/study").status_code == 303

    def test_what_cannot_be_is_said(self, desk):
        assert "for whom" in self.made_by(desk, **{"for": " "}).text
        assert "1 to 365" in self.made_by(desk, days="999").text
        for form in ({"part": "7"}, {"part": "-x"}, {"do": "fly"}, {"do": "revoke", "link": "x"}):
            assert self.made_by(desk, **form).status_code == 400
        assert self.made_by(desk, study="1.2.3").status_code == 404
        assert self.made_by(desk, do="revoke", link="99").status_code == 404

    def test_of_another_clinic_there_is_nothing(self, make_pages, add, make, accounts):  # noqa: F811
        made = make()
        add("sofia", Role.SHARE, "south")
        desk = make_pages(address=ELSEWHERE)
        log_in(desk, "sofia")
        assert "Dr. Who" not in desk.get("/shares").text
        assert desk.get(f"/shares/new?study={SHOWN.StudyInstanceUID}").status_code == 404
        for what in ("revoke", "unlock"):
            form = form_of(desk, "/shares") | {"do": what, "link": str(made.link.number)}
            assert desk.post("/shares", data=form).status_code == 404
        assert accounts.share_numbered(made.link.number).revoked_at is None

    def test_a_study_of_two_clinics_is_shared_one_part_at_a_time(self, make_pages, add, stored, shares, phone):  # noqa: F811
        south = {"PatientName": "SOUTH^SVEN", "PatientID": "P4711", "SOPInstanceUID": "1.2.3.4.5.6"}
        stored.put(encode(with_pixels(dx(**south))), 5, site="south")
        add("maria", Role.SHARE)
        desk = make_pages(address=ELSEWHERE)
        log_in(desk, "maria")
        form = desk.get(f"/shares/new?study={SHOWN.StudyInstanceUID}").text
        assert ("MUSTER" in form, "SVEN" in form, form.count('name="part"')) == (True, True, 2)
        page = self.made_by(desk, part="1").text
        made = SimpleNamespace(
            token=re.findall(r"/share/([\w-]+)<", page)[0], pin=re.findall(r'id="pin">([^<]+)<', page)[0]
        )
        study = phone.get(open_link(phone, made).headers["location"]).text
        assert ("SVEN" in study, "MUSTER" in study) == (True, False)
        with zipfile.ZipFile(io.BytesIO(phone.get(f"/share/{made.token}/save/dicom").content)) as archive:
            images = [archive.read(name) for name in archive.namelist() if name.startswith("DICOM/")]
        assert [(b"SVEN" in image, b"MUSTER" in image) for image in images] == [(True, False)]
        of_north = [filled(each.path, made.token) for each in EVERY if "{instance}" in each.path]
        assert {path for path in of_north if phone.get(path).status_code != 404} == set()

    def test_where_nobody_could_open_it_none_is_made(self, make_pages, add, shares, accounts):  # noqa: F811
        add("maria", Role.SHARE)
        desk = make_pages(address=ELSEWHERE, share_address="")
        log_in(desk, "maria")
        page = desk.get(f"/shares/new?study={SHOWN.StudyInstanceUID}").text
        assert ("public_url" in page, 'name="for"' in page) == (True, False)
        assert "public_url" in self.made_by(desk).text
        assert accounts.shares(SEES_ALL, 9) == []

    def test_who_may_not_share(self, make_pages, add, shares):  # noqa: F811
        add("ben", Role.RESTORE)
        desk = make_pages(address=ELSEWHERE)
        log_in(desk, "ben")
        assert "/shares" not in desk.get(f"/study?uid={SHOWN.StudyInstanceUID}").text
        assert desk.get("/shares").status_code == 403


class TestRights:
    def test_every_page_that_shows_something_has_a_right_that_only_a_link_gives(self):
        of_links = {Right.LOOK_BY_LINK, Right.SAVE_BY_LINK}
        assert {page.path for page in SHARE_PAGES if page.right is None} == {"/share/{link}", "/share/{link}/end"}
        assert {page.right for page in EVERY} <= of_links
        assert not [page.path for page in PAGES if page.right in of_links or page.path.startswith("/share/")]
        for rights in (*RIGHTS.values(), *ROLE_RIGHTS.values()):
            assert not rights & of_links
        assert RIGHTS[CallerKind.SHARE_LINK] == frozenset()
        assert {False: {Right.LOOK_BY_LINK}, True: of_links} == LINK_RIGHTS


class TestWords:
    def test_each_language_has_all(self):
        assert languages(FOR_PATIENTS) == ("de", "en", "es")
        found = {name: tomllib.loads((FOR_PATIENTS / f"{name}.toml").read_text("utf-8")) for name in ("de", "en", "es")}
        flat = {
            name: {
                (section, key): sorted(re.findall("{[a-z]+}", text))
                for section, texts in words.items()
                for key, text in texts.items()
            }
            for name, words in found.items()
        }
        files = tomllib.loads((FOR_PATIENTS.parent / "en.toml").read_text("utf-8"))["parcel"]  # English as on the page
        flat["en"] |= {("parcel", key): sorted(re.findall("{[a-z]+}", text)) for key, text in files.items()}
        assert flat["de"] == flat["en"] == flat["es"]
        used = {name for file in TEMPLATES.glob("*.html") for name in re.findall(r'\bt\("([\w.]+)"', file.read_text())}
        used = {name for name in used if not name.endswith("_")} | {f"study.save_{kind}" for kind in ParcelKind}
        assert used <= {f"{section}.{key}" for section, key in flat["en"]}

    def test_the_language_is_chosen_and_kept(self, phone, make):
        made = make()
        page = phone.get(f"/share/{made.token}?lang=es", headers={"Accept-Language": "de"})
        assert "Introduzca el PIN" in page.text
        (action,) = re.findall(r'<form class="stacked" action="([^"]+)"', page.text)
        token = re.findall(r'name="token" value="([^"]+)"', page.text)[0]
        answer = phone.post(action, data={"token": token, "pin": made.pin})
        assert answer.headers["location"].endswith("/study?lang=es")
        study = phone.get(answer.headers["location"]).text
        assert "Fecha de nacimiento" in study
        assert all("lang=" in path for path in re.findall(r'href="([^"]*/share/[^"]+)"', study))
        phone.cookies.clear()
        assert '<html lang="en">' in phone.get(f"/share/{made.token}?lang=../x").text
