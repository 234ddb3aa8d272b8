"""Patients of two clinics: compared, linked, seen beside each other, taken back; for nobody who sees one clinic."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from backup_scp.node.settings import load
from backup_scp.ports import AuditKind, Role
from backup_scp.services.permissions import Right
from backup_scp.web.pages.page_table import PAGES
from tests.samples import ct_series, dx, encode
from tests.web.pages.conftest import ELSEWHERE
from tests.web.pages.test_login_pages import add, form_of, log_in, stored_hash  # noqa: F401 - fixtures

NORTH = dx(study="n", PatientName="GARCIA^ANA", PatientID="P1", PatientBirthDate="19700131", StudyDescription="HAND")
SOUTH = dx(study="s", PatientName="GARCIA^ANA", PatientID="P1", PatientBirthDate="19700131", StudyDescription="KNEE")
PAIR = {"site": "north", "id": "P1", "other_site": "south", "other_id": "P1"}
REMOTES = """
[[remote]]
name = "{0}-console"
ae_title = "{0}"
host = "192.0.2.7"
site = "{0}"
"""


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("".join(REMOTES.format(site) for site in ("north", "south")))
    return load(file, {"BACKUP_SCP_HOME": str(tmp_path)})


@pytest.fixture(autouse=True)
def clinics(stored):
    stored.put(encode(NORTH), 0, site="north")
    stored.put(encode(SOUTH), 1, site="south")


@pytest.fixture
def who(make_pages, add, accounts):  # noqa: F811
    """Return a browser in which somebody with these roles is logged in."""

    def who(name: str = "maria", **roles: Role):
        user = add(name)
        accounts.set_roles(user.id, roles)
        client = make_pages(address=ELSEWHERE)
        log_in(client, name)
        return client

    return who


@pytest.fixture
def maria(who):
    return who(north=Role.SHARE, south=Role.SHARE)


def link(client, **more: str):
    return client.post("/patients", data=form_of(client, "/patients") | {"do": "link"} | PAIR | more)


def study(client, ds=NORTH) -> str:
    return client.get("/study", params={"uid": ds.StudyInstanceUID}).text


def test_compared_linked_seen_and_taken_back(maria, accounts):
    before = study(maria)
    assert "KNEE" not in before
    compare = re.findall(r'href="(/patients/compare[^"]+)"', before)[0].replace("&amp;", "&")
    page = maria.get(compare)
    assert "The same name and birth date" in page.text
    both = maria.get("/patients/compare?" + urlencode(PAIR)).text
    assert both.count("<td>P1</td>") == 2
    assert "differs" not in both
    assert link(maria).headers["location"] == "/patients"
    for ds, other in ((NORTH, SOUTH), (SOUTH, NORTH)):
        text = study(maria, ds)
        assert f"/study?uid={other.StudyInstanceUID}" in text
        assert "linked by maria" in text
    assert "KNEE" in study(maria)
    listed = maria.get("/patients").text
    assert (listed.count("P1"), "Garcia" in listed or "GARCIA, ANA" in listed) == (2, True)
    assert maria.get(compare).text.count("Linked already") == 1
    back = form_of(maria, "/patients") | {"do": "unlink", "number": "1"}
    assert maria.post("/patients", data=back).status_code == 303
    assert study(maria) == before
    assert "taken back by maria" in maria.get("/patients").text
    kinds = [(event.kind, event.about) for event in accounts.events(10) if event.kind.startswith("patients")]
    assert kinds == [(AuditKind.PATIENTS_UNLINKED, "link 1"), (AuditKind.PATIENTS_LINKED, "link 1")]


@pytest.mark.parametrize(
    ("roles", "may_link", "sees_links"),
    [
        ({"north": Role.SHARE}, False, False),
        ({"north": Role.SHARE, "south": Role.SEE}, False, True),
        ({"north": Role.SEE, "south": Role.SEE}, False, True),
        ({"north": Role.SHARE, "south": Role.SHARE}, True, True),
        ({"north": Role.SHARE, "east": Role.SHARE}, True, False),
        ({"*": Role.SEE}, False, True),
        ({"*": Role.SHARE}, True, True),
        ({"*": Role.ADMINISTER}, True, True),
    ],
)
def test_who_may_link_and_who_sees_a_link(maria, who, roles, may_link, sees_links):
    link(maria)
    client = who("ben", **roles)
    text = study(client)
    assert ("KNEE" in text, "in other clinics" in text) == (sees_links, sees_links or may_link)
    assert ('href="/patients"' in text) == may_link
    listed = client.get("/patients")
    assert (listed.status_code == 200) == may_link
    assert ("linked by maria" in listed.text) == (may_link and sees_links)


def test_a_link_shows_a_clinic_s_user_nothing(maria, who):
    """Byte for byte the same pages before and after, at both ends."""
    clients = [who(site, **{site: Role.SHARE}) for site in ("north", "south")]

    def seen() -> list[tuple[int, str]]:
        paths = ["/studies", "/patients", "/patients/compare?" + urlencode(PAIR),
                 *(f"/study?uid={ds.StudyInstanceUID}" for ds in (NORTH, SOUTH)),
                 "/dicom-web/studies?PatientID=P1&includefield=all"]  # fmt: skip
        answers = [client.get(path) for client in clients for path in paths]
        return [(answer.status_code, answer.text) for answer in answers]

    before = seen()
    link(maria)
    assert seen() == before


def test_what_one_may_not_link_is_answered_as_what_is_not_there(who):
    """Somebody who may link at two clinics cannot find out whom a third one has."""
    client = who("ben", north=Role.SHARE, east=Role.SHARE)
    query = {"site": "south", "id": "P1"}
    theirs, nobody = (client.get("/patients/compare", params=one) for one in (query, query | {"id": "P0"}))
    assert (theirs.status_code, theirs.text) == (404, nobody.text)
    pages = [link(client, other_id=number) for number in ("P1", "P0")]
    assert [page.status_code for page in pages] == [400, 400]
    assert pages[0].text == pages[1].text
    asked = [PAIR | {"other_id": number} for number in ("P1", "P0")]
    texts = [client.get("/patients/compare", params=one).text.replace(one["other_id"], "P") for one in asked]
    assert texts[0].replace("P1", "P") == texts[1].replace("P1", "P")


def test_a_difference_is_marked(maria, stored):
    stored.put(encode(dx(study="x", PatientName="GARCIA^ANNA", PatientID="P2")), 5, site="south")
    text = maria.get("/patients/compare?" + urlencode(PAIR | {"other_id": "P2"})).text
    assert text.count("differs") == 2
    assert (
        "There is no image of south: P9" in maria.get("/patients/compare?" + urlencode(PAIR | {"other_id": "P9"})).text
    )


@pytest.mark.parametrize(
    "form",
    [{"do": "unlink", "number": "7"}, {"do": "unlink", "number": "9" * 30}, {"do": "unlink", "number": "x"},
     {"do": "link", "id": "P1"}, {"do": "fly"}, {}, PAIR | {"do": "link", "other_site": "north"}],
)  # fmt: skip
def test_a_form_that_asks_for_nothing_sensible(maria, form):
    assert maria.post("/patients", data=form_of(maria, "/patients") | form).status_code == 400


def test_a_link_needs_the_token_of_the_form(maria, accounts):
    assert maria.post("/patients", data=PAIR | {"do": "link"}).status_code == 403
    assert [page.right for page in PAGES if page.path.startswith("/patients")] == [Right.LINK] * 3
    assert not [event for event in accounts.events(10) if event.kind == AuditKind.PATIENTS_LINKED]


def test_a_patient_s_words_are_text(maria, stored):
    odd = '<b>"&P'
    stored.put(
        encode(dx(study="odd", PatientName="<i>X</i>", PatientID=odd, PatientBirthDate="19700131")), 7, site="south"
    )
    text = maria.get("/patients/compare?" + urlencode(PAIR | {"other_id": odd})).text
    assert ("<b>" in text, "<i>" in text) == (False, False)
    assert link(maria, other_id=odd).status_code == 303
    assert "<b>" not in study(maria) + maria.get("/patients").text


def test_a_damaged_database_of_users_hides_no_study(make_pages, tmp_path):
    (tmp_path / "accounts.sqlite").write_bytes(b"damaged" * 1000)
    text = study(make_pages())
    assert "HAND" in text
    assert "cannot be read now" in text


def test_a_node_with_one_clinic_has_no_such_page(pages, stored, settings, tmp_path, monkeypatch):
    assert pages.get("/patients").status_code == 200
    monkeypatch.setattr("backup_scp.web.pages.page_sources.PageSources.clinics", ["north"])
    assert pages.get("/patients").status_code == 404
    assert 'href="/patients"' not in pages.get("/studies").text
    series = ct_series(1)[0]
    stored.put(encode(series), 9)
    assert "in other clinics" not in study(pages, series)


def test_nothing_is_made_for_a_node_with_one_clinic(make_pages, stored, settings, tmp_path, monkeypatch):
    """Its database of users does not exist before somebody needs it."""
    monkeypatch.setattr("backup_scp.web.pages.page_sources.PageSources.clinics", ["north"])
    assert "HAND" in study(make_pages())
    assert not (tmp_path / "accounts.sqlite").exists()
