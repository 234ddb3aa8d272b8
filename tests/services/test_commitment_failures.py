"""Why images were not committed, in words."""

from __future__ import annotations

import pytest

from backup_scp.ports import FailureReason
from backup_scp.services.commitment_failures import why_not_committed

MISSING = FailureReason.NO_SUCH_OBJECT_INSTANCE


def test_each_reason_has_words_and_a_fix():
    for failure in FailureReason:
        reason, fix = why_not_committed([failure]) or ("", "")
        assert reason.startswith("it asks for 1 image of 1 to be committed that is ")
        assert fix


@pytest.mark.parametrize("results", [[], [None], [None, None]])
def test_all_is_committed(results):
    assert why_not_committed(results) is None


def test_the_most_frequent_reason_is_told():
    reason, _ = why_not_committed([None, MISSING, FailureReason.PROCESSING_FAILURE, MISSING]) or ("", "")
    assert reason == "it asks for 2 images of 4 to be committed that are not stored here"
