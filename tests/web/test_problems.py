"""Errors, as programs and people read them."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.exceptions import HTTPException

from backup_scp import errors
from backup_scp.web.problems import Problem, problem_of, response_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidIdentifier("What"), 400),
        (errors.ArchiveFull("Full"), 507),
        (errors.IndexUnavailable("Busy"), 503),
        (errors.DigestMismatch("1.2.3 is damaged"), 500),
        (errors.FileMissing("1.2.3 is gone"), 500),
        (HTTPException(404), 404),
        (Problem(406, "No"), 406),
    ],
)
def test_ours(error, status):
    answer = response_of(problem_of(error))
    assert (answer.status_code, answer.media_type) == (status, "application/problem+json")
    body = json.loads(bytes(answer.body))
    assert body["status"] == status
    assert body["detail"]


def test_try_again_later():
    assert problem_of(errors.IndexUnavailable("Busy")).headers["Retry-After"]


def test_an_unforeseen_one_names_no_patient(caplog):
    caplog.set_level(logging.DEBUG)
    try:
        raise ValueError("Müller^Hans")
    except ValueError as error:
        problem = problem_of(error)
    assert problem.status == 500
    assert "Müller" not in problem.detail + caplog.text
    assert "ValueError in test_problems.py" in caplog.text


@pytest.mark.parametrize(
    "path",
    ["/studies/%2e%2e%2f%2e%2e%2fetc%2fpasswd/series", "/studies/..%5C..%5Cetc/series", "/studies/1%00/series",
     "/..%2f..%2fetc/passwd", "/studies//series", "/studies/%FF/series", "/studies/" + "1" * 60_000 + "/nothing"],
)  # fmt: skip
def test_odd_paths_lead_nowhere(web, path):
    assert web.get(path).status_code in {204, 400, 404}


@pytest.mark.parametrize("query", ["&" * 50_000, "a=1&" * 10_000, "PatientID=1&" * 5_000, "=&" * 10_000, "%" * 60_000])
def test_odd_queries_are_refused_or_empty(web, query):
    assert web.get(f"/studies?{query}").status_code in {204, 400}


def test_paths_and_methods(web):
    assert web.get("/nothing").json()["status"] == 404
    answer = web.delete("/")
    assert (answer.status_code, "OPTIONS" in answer.headers["allow"]) == (405, True)
