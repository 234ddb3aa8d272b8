"""`patients`: link, list, unlink."""

from __future__ import annotations

import json

import pytest

from tests.samples import dx, encode
from tests.stored import stored_in

PAIR = ["--site", "north", "--patient-id", "P1", "--other-site", "south", "--other-patient-id", "P1"]


@pytest.fixture(autouse=True)
def stored(home):
    home.mkdir(exist_ok=True)
    with stored_in(home) as stored:
        for site in ("north", "south"):
            sample = encode(dx(study=site, PatientID="P1", PatientName=f"GARCIA^{site.upper()}"))
            stored.put(sample, site=site)


def test_shown_confirmed_listed_taken_back(run, monkeypatch):
    asked: list[str] = []

    def agree(text: str, **_: object) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr("typer.confirm", agree)
    told = run("patients", "link", *PAIR)
    assert (told.code, asked) == (0, ["Are these one person?"])
    assert "north: P1: GARCIA^NORTH" in told.out
    assert "Link 1: linked" in told.out
    (listed,) = json.loads(run("patients", "links", "--json").out)
    assert [listed[end]["site"] for end in ("one", "other")] == ["north", "south"]
    assert "south: P1" in run("patients", "links").out
    assert json.loads(run("patients", "unlink", "1", "--json").out) == {"number": 1, "done": "unlinked"}
    assert "command line" in run("patients", "links").out.rpartition(" by ")[2]
    log = [(line["kind"], line["about"]) for line in json.loads(run("users", "log", "--json").out)]
    assert log == [("patients unlinked", "link 1"), ("patients linked", "link 1")]


def test_a_no_links_nobody(run, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert run("patients", "link", *PAIR).code == 1
    assert "No patients are linked" in run("patients", "links").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["link", "--yes", *PAIR[:-1], "P2"], "no image"),
        (["link", "--yes", *PAIR, "--other-site", "north"], "two clinics"),
        (["unlink", "7"], "no link"),
    ],
)
def test_what_cannot_be_is_said_of_patients(run, arguments, said):
    told = run("patients", *arguments)
    assert (told.code, said in told.err) == (1, True)
