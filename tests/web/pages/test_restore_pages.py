"""Restores by hand: what is picked, where it goes, and what the page says of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from backup_scp.machine import clock
from backup_scp.services import restore_jobs
from tests.samples import dx, encode

STUDY = dx().StudyInstanceUID


@pytest.fixture
def order(pages, stored):
    """Return ``order(**fields)``: send the form."""
    stored.put(encode(dx(PatientName="A^<b>")))

    def order(**fields):
        page = pages.get("/restore/new", params={"study": STUDY}).text
        token = re.search(r'name="token" value="([^"]+)"', page).group(1)  # type: ignore[union-attr]
        return pages.post("/restore", data={"token": token, "study": STUDY, "to": "dx-room-1"} | fields)

    return order


def test_the_form_shows_what_was_picked_and_the_consoles(pages, order):
    text = pages.get("/restore/new", params={"study": [STUDY, "1.2.3"]}).text
    assert "A, &lt;b&gt;" in text
    assert text.count('name="study"') == 1
    assert 'value="dx-room-1"' in text
    assert "No study is picked" in pages.get("/restore/new").text


def test_an_order_reaches_the_node_and_leads_to_its_page(pages, stored, order, orders):
    answer = order()
    assert (answer.status_code, answer.headers["location"]) == (303, "/restore/job?place=restore-0")
    (job,) = restore_jobs.jobs(stored.index)
    assert (job.to, job.studies, job.node) == ("dx-room-1", (STUDY,), "this node")
    assert orders == [1]
    assert "It begins" in pages.get(answer.headers["location"]).text


@pytest.mark.parametrize("to", ["", "elsewhere", "EVIL@192.0.2.66:104", "/tmp", "DX"])
def test_only_a_console_of_the_settings_gets_it(order, stored, orders, to):
    assert order(to=to).status_code == 400
    assert restore_jobs.jobs(stored.index) == orders == []


@pytest.mark.parametrize("study", ["", "1\\2", ["1"] * 1 + [str(n) for n in range(101)]])
def test_nothing_and_too_much_is_refused(order, stored, study):
    assert order(study=study).status_code == 400
    assert restore_jobs.jobs(stored.index) == []


def test_what_the_page_says_of_it(pages, stored, order, tmp_path):
    order()
    (job,) = restore_jobs.jobs(stored.index)

    def text(**facts) -> str:
        restore_jobs.record(stored.index, replace(job, **facts))
        return pages.get("/restore/job?place=restore-0").text

    assert "3 of 7 images" in text(done=3, total=7)
    assert "It waits: the &lt;console&gt; is off" in text(done=3, total=7, note="the <console> is off")
    now = clock.now()
    failed = text(done=3, total=7, note="it is full", ended_at=now)
    assert "NOT complete" in failed
    assert f'href="/restore/new?study={STUDY}&amp;"' in failed
    assert "data-events" not in failed
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "r.txt").write_text("who got what")
    done = text(done=7, total=7, ended_at=now, is_complete=True, receipt="r.txt")
    assert "7 images are on dx-room-1" in done
    receipt = pages.get("/restore/receipt?place=restore-0")
    assert receipt.text == "who got what"
    assert receipt.headers["content-disposition"].startswith("attachment")
    assert "complete" in pages.get("/restore").text


@pytest.mark.parametrize("name", ["", "../settings.toml", "/etc/passwd", "gone.pdf", "."])
def test_only_a_receipt_is_sent(pages, stored, order, name):
    order()
    (job,) = restore_jobs.jobs(stored.index)
    restore_jobs.record(stored.index, replace(job, receipt=name))
    assert pages.get("/restore/receipt?place=restore-0").status_code == 404


@pytest.mark.parametrize("path", ["job", "events", "receipt"])
def test_a_restore_that_is_not_there(pages, path):
    assert pages.get(f"/restore/{path}?place=restore-5").status_code == 404
