"""Retrieve Capabilities: what is described is what there is (PS3.18 8.9, Annex H)."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from backup_scp.dicom.attributes import ATTRIBUTES, Level
from backup_scp.web.dicomweb.table import ROUTES
from tests.web.conftest import BASE

WADL = "{http://wadl.dev.java.net/2009/02}"


def described(answer) -> dict[tuple[str, str], ET.Element]:
    """Return the methods of a description, by path and method."""
    assert answer.status_code == 200
    application = ET.fromstring(answer.content)
    assert application.tag == f"{WADL}application"
    (resources,) = application
    assert resources.get("base") == BASE
    found = {}
    for resource in resources:
        for method in resource:
            key = (f"/{resource.get('path')}", str(method.get("name")))
            assert key not in found
            found[key] = method
    return found


@pytest.mark.parametrize("path", ["", "/"])
def test_every_route_is_described(web, path):
    found = described(web.options(path))
    assert set(found) == {(route.template, route.method) for route in ROUTES}
    for route in ROUTES:
        method = found[route.template, route.method]
        assert method.get("id") == route.transaction.replace(" ", "")
        named = {param.get("name") for param in method.iter(f"{WADL}param")}
        assert {*route.parameters, *(["Accept"] if route.offers else [])} == named


def test_a_search_names_every_key(web):
    method = described(web.options(""))["/studies", "GET"]
    named = {param.get("name") for param in method.iter(f"{WADL}param")}
    assert {a.keyword for a in ATTRIBUTES if a.level in (Level.PATIENT, Level.STUDY)} <= named
    assert {"fuzzymatching", "emptyvaluematching", "multiplevaluematching", "includefield", "limit", "offset"} <= named


def test_a_resource_describes_itself_and_what_is_below(web):
    found = described(web.options("/studies/1.2.3/series"))
    assert ("/studies/{study}/series", "GET") in found
    assert all(path.startswith("/studies/{study}/series") for path, _ in found)


def test_other_media_types(web):
    assert web.options("", headers={"accept": "text/xml"}).headers["content-type"].startswith("text/xml")
    assert web.options("", headers={"accept": "image/png"}).status_code == 406


def test_a_405_lists_the_methods(web):
    answer = web.put("/studies")
    assert (answer.status_code, {"GET", "OPTIONS"} <= set(answer.headers["allow"].split(", "))) == (405, True)
