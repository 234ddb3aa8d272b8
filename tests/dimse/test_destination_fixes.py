"""What to do about a Move Destination that did not take images."""

from __future__ import annotations

import pytest

from backup_scp import errors
from backup_scp.dimse.scp.destination_fixes import told_of_destination
from backup_scp.ports import RemoteAE

REMOTE = RemoteAE("dr room 2", "DR2", "192.0.2.7", 104)
CHECK = "backup-scp check 'dr room 2'  tries to reach it"


@pytest.mark.parametrize(
    ("error", "reason", "fix"),
    [
        (
            errors.DestinationUnreachable("DR2: no answer; is it on?"),
            "no answer",
            f"is it on? {CHECK}",
        ),
        (errors.NoRoom("It is full"), "It is full", "make room at DR2"),
        (errors.NothingAccepted("None"), "None", "DR2 does not take such images"),
        (errors.InstanceRefused("Not this class"), "Not this class", "DR2 does not take such images"),
        (errors.InstanceRefused("Status", 0x0122), "Status", "DR2 says: "),
        (errors.InstanceUnconfirmed("It broke off"), "It broke off", f"look into the log of DR2. {CHECK}"),
        (errors.DestinationUnavailable("It broke off"), "It broke off", CHECK),
    ],
)
def test_each_error_has_its_fix(error, reason, fix):
    said, to_do = told_of_destination(REMOTE, error)
    assert said.endswith(reason)
    assert fix in to_do
