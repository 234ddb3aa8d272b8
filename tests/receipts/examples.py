"""A receipt that is easy to make."""

from __future__ import annotations

from backup_scp.receipts.receipt import Column, Receipt

COLUMNS = (Column("patient_name", "Patient's name", 30), Column("images", "Images", 8), Column("uid", "", 0))
NAMES = (
    "Müller^Jörg",
    "Иванов^Иван",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Wang^XiaoDong=王^小东",
    "<b>&^",
)


def receipt(names=NAMES, complete=True, problems=()):
    rows = ((name, number, f"1.2.{number}") for number, name in enumerate(names, 1000))
    facts: dict[str, str | int] = {"From": "BACKUP_SCP", "Images sent": 1234567}
    return Receipt("Receipt of a test", complete, "All is there.", facts, COLUMNS, rows, tuple(problems))
