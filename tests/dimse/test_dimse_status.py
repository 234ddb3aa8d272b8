"""Every error has its Status, in one place (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5)."""

from __future__ import annotations

import pytest

from backup_scp import errors
from backup_scp.dimse.messages.dimse_status import ANSWERS, is_warning, status_of

EXPECTED = {
    errors.BackupSCPError: 0x0110,
    errors.Invalid: 0xA900,
    errors.InvalidDataSet: 0xA900,
    errors.AnotherStudy: 0xA900,
    errors.InvalidIdentifier: 0xA900,
    errors.InvalidActionInformation: 0x0115,
    errors.InvalidSettings: 0xA900,
    errors.SettingsChanged: 0xA900,
    errors.InvalidSelection: 0xA900,
    errors.NotDICOM: 0xA900,
    errors.NoArchive: 0xA900,
    errors.NotOwner: 0xA900,
    errors.Unavailable: 0xA700,
    errors.AlertNotSent: 0xA700,
    errors.ArchiveUnavailable: 0xA700,
    errors.ArchiveFull: 0xA700,
    errors.IndexUnavailable: 0xA700,
    errors.IndexDamaged: 0xA700,
    errors.MatchesUncounted: 0xA701,
    errors.AccountsUnavailable: 0xA700,
    errors.ProviderUnavailable: 0xA700,
    errors.SourceUnavailable: 0xA700,
    errors.ResourceLimitation: 0x0213,
    errors.DestinationUnavailable: 0xA702,
    errors.DestinationAway: 0xA702,
    errors.AllowanceUsed: 0xA702,
    errors.CopyingStopped: 0xA702,
    errors.DestinationForeign: 0xA702,
    errors.DestinationUnreachable: 0xA702,
    errors.DestinationBusy: 0xA702,
    errors.DestinationRefuses: 0xA702,
    errors.DestinationSilent: 0xA702,
    errors.SiteNotTaken: 0xA702,
    errors.NothingAccepted: 0xA702,
    errors.Refused: 0x0110,
    errors.NotAuthorised: 0x0124,
    errors.ProviderRefused: 0x0110,
    errors.MoveDestinationUnknown: 0xA801,
    errors.DuplicateTransaction: 0x0131,
    errors.InstanceRefused: 0x0110,
    errors.NoRoom: 0x0110,
    errors.InstanceUnconfirmed: 0x0110,
    errors.Damaged: 0x0110,
    errors.DigestMismatch: 0x0110,
    errors.OtherKey: 0x0110,
    errors.NotOurFile: 0x0110,
    errors.FileMissing: 0x0110,
}


def every_error():
    return {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BackupSCPError)
    }


@pytest.mark.parametrize("kind", sorted(every_error(), key=str))
def test_every_error_has_its_status(kind):
    assert status_of(kind("x")) == EXPECTED[kind]


@pytest.mark.parametrize("kind", sorted(every_error(), key=str))
def test_the_table_of_answers_has_the_status_of_every_error_with_a_comment(kind):
    rows = [answer for answers in ANSWERS.values() for answer in answers if answer.status == EXPECTED[kind]]

    assert rows
    assert all(answer.comment for answer in rows)


def test_no_service_has_two_rows_for_one_status():
    for service, answers in ANSWERS.items():
        statuses = [answer.status for answer in answers]
        assert len(set(statuses)) == len(statuses), service


def test_none_is_a_success_or_a_warning():
    for kind in every_error():
        status = status_of(kind("x"))
        assert status
        assert not is_warning(status)


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xBFFF, 0x0001, 0x0107, 0x0116])
def test_warnings(status):
    assert is_warning(status)


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xA900, 0xC000, 0x0110, 0x0122, 0xFE00, 0xFF00])
def test_no_warnings(status):
    assert not is_warning(status)
