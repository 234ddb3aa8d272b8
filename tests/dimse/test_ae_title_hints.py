"""In what a wrong AE title differs from the right one."""

from __future__ import annotations

import pytest

from backup_scp.dimse.association.ae_title_hints import fix_of_called, likeness

CAPITALS, SIGNS = "capitals count", "blanks, hyphens and underscores count"
CUT, LETTERS = "it is cut off, or too long", "compare it letter by letter"


@pytest.mark.parametrize(
    ("said", "meant", "hint"),
    [
        ("backup_scp", "BACKUP_SCP", CAPITALS),
        ("BACKUP-SCP", "BACKUP_SCP", SIGNS),
        ("Backup Scp", "BACKUP_SCP", SIGNS),
        ("BACKUP", "BACKUP_SCP", CUT),
        ("BACKUP_SCP_1", "BACKUP_SCP", CUT),
        ("BACKUPP_SCP", "BACKUP_SCP", LETTERS),
        ("BACKUP_SPC", "BACKUP_SCP", LETTERS),
        ("OLDPACS", "BACKUP_SCP", ""),
        ("BACKUP_SCP", "BACKUP_SCP", ""),
        ("", "BACKUP_SCP", ""),
        ("DR1", "DR2", ""),
        ("CT", "CT1", ""),
    ],
)
def test_in_what_a_name_differs(said, meant, hint):
    assert likeness(said, meant) == hint


@pytest.mark.parametrize(
    ("said", "calling", "words"),
    [
        ("127.0.0.1", "CT", "an address is no AE title"),
        ("ANY-SCP", "CT", "nobody has entered one there yet"),
        ("BACKUP", "CT", CUT),
        ("CT", "BACKUP_SCP", "exchanged"),
        ("OLDPACS", "CT", "set the called AE title to BACKUP_SCP at the sender"),
    ],
)
def test_what_to_do_about_a_wrong_called_ae_title(said, calling, words):
    assert words in fix_of_called(said, "BACKUP_SCP", calling)
