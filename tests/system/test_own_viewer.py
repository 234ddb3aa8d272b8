"""Our viewer shows each image as pydicom says, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from tests.processes import wait_until
from tests.system.own_viewer import OwnViewer, own_viewer
from tests.system.viewer_cases import COLUMNS, ROWS, Case, Cases
from tests.system.web import web_address, web_node


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


def store(node, samples):
    assert {answer.status for answer in node.send(samples)} == {0}


def difference(viewer: OwnViewer, case: Case) -> float:
    """Return how far the farthest pixel is from what it should be, in grey levels."""
    seen = viewer.image(ROWS, COLUMNS)
    expected = case.expected if case.expected.ndim == 3 else case.expected[..., None]
    differences = np.abs(seen - expected)
    return float((differences if case.clear is None else differences[case.clear]).max())


def wrong(viewer: OwnViewer, number: int, case: Case) -> str:
    viewer.show_series(number)
    if case.look:
        viewer.page.locator("select").select_option(f"look {case.look}")

    def is_right() -> bool:
        viewer.run("actual")  # again: a Presentation State that comes later has its own size
        return difference(viewer, case) <= case.most

    try:
        wait_until(is_right, 30, what=case.name)
    except AssertionError:
        viewer.keep_screenshot(f"wrong {case.name}")
        return f"{case.name}: {difference(viewer, case):.1f} of 255"
    return ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rendering", ["cpu", "gpu"])
def test_every_pixel_is_shown_as_pydicom_renders_it(node, tmp_path, rendering):
    cases = list(Cases(tmp_path))
    store(node, [sample for case in cases for sample in case.samples])
    with own_viewer(web_address(node)) as viewer:
        viewer.open(cases[0].samples[0].dataset().StudyInstanceUID, rendering=rendering)
        found = [wrong(viewer, number, case) for number, case in enumerate(cases)]
        viewer.keep_screenshot(f"cases {rendering}")
        print(viewer.errors)
        assert "\n".join(filter(None, found)) == ""
        assert viewer.errors == []
