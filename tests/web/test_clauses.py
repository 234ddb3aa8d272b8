"""The table of clauses (``clauses.md``) names tests that are there; and sentences that no other file tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from tests.samples import dx, with_pixels
from tests.web.test_wado_instances import get, path_of, put_all
from tests.web.test_wado_rendered import image_of

HERE = Path(__file__).parent
ROW = re.compile(r"\| [0-9.]+ \| [^|]+ \| `(test_\w+)::(test_\w+)` \|")


def test_each_clause_has_a_test_that_is_there():
    rows = [line for line in (HERE / "clauses.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 40
    for row in rows:
        matched = ROW.fullmatch(row)
        assert matched, row
        (file,) = HERE.rglob(f"{matched[1]}.py")
        found = {each.name for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.FunctionDef)}
        assert matched[2] in found, f"{matched[1]} has no {matched[2]}"


def test_an_unknown_parameter_is_ignored(stored, web):
    ds = dx()
    put_all(stored, [ds])
    accepts = {"": "application/dicom", "/frames/1": "application/octet-stream"}
    for path in ("", "/metadata", "/rendered", "/frames/1", "/thumbnail"):
        accept = accepts.get(path, "*/*")
        answer = get(web, f"{path_of(ds)}{path}?colour=red", accept)
        assert answer.status_code == 200
        assert answer.content == get(web, f"{path_of(ds)}{path}", accept).content


def test_quality_is_not_for_png(stored, web):
    ds = with_pixels(dx(), 40, 80)
    put_all(stored, [ds])
    low, high = (image_of(get(web, f"{path_of(ds)}/rendered?quality={n}", "image/png")) for n in (1, 100))
    assert np.array_equal(low, high)


@pytest.mark.parametrize(
    ("part", "rows", "columns"),
    [
        ("10,5,20,10", slice(5, 15), slice(10, 30)),
        ("10.2,4.9,20.4,9.6", slice(5, 15), slice(10, 30)),
        (",,20,10", slice(0, 10), slice(0, 20)),
        ("60,30,,", slice(30, 40), slice(60, 80)),
        ("10,5,-20,10", slice(5, 15), slice(29, 9, -1)),
    ],
)
def test_a_part_of_the_image(stored, web, part, rows, columns):
    ds = with_pixels(dx(), 40, 80)
    put_all(stored, [ds])
    path = f"{path_of(ds)}/rendered?window=1600,3200"
    whole = image_of(get(web, path, "image/png"))[rows, columns]
    size = f"{whole.shape[1]},{whole.shape[0]}"
    assert np.array_equal(image_of(get(web, f"{path}&viewport={size},{part}", "image/png")), whole)
