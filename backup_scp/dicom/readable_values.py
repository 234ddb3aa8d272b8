"""Write values as people do."""

from __future__ import annotations


def readable_name(name: str) -> str:
    """Write a name as people do: ``Family, Given`` and the same in another script (PS3.5 6.2.1)."""
    groups = []
    for group in name.split("=")[:2]:
        family, *others = (part.strip() for part in group.split("^"))
        given = " ".join(filter(None, others[:2]))
        groups.append(", ".join(filter(None, (family, given))))
    return " · ".join(dict.fromkeys(filter(None, groups)))


def readable_date(date: str) -> str:
    """Write a date with hyphens, when it is one."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdecimal() else date
