"""A trail that a test reads, and messages as an outsider reads them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from backup_scp.ports import TrailEvent, TrailKind


@dataclass
class ListTrail:
    """Keeps the entries in memory."""

    events: list[TrailEvent] = field(default_factory=list)

    def record(self, event: TrailEvent) -> None:
        self.events.append(event)

    def of(self, *kinds: TrailKind) -> list[TrailEvent]:
        return [event for event in self.events if event.kind in kinds]


@dataclass
class ReadMessage:
    """An audit message, read by its element names alone."""

    encoded: bytes
    root: ET.Element = field(init=False)

    def __post_init__(self):
        self.root = ET.fromstring(self.encoded)

    @property
    def event(self) -> tuple[str, str, str, str]:
        """The codes of event and type, action and outcome."""
        found = self.root.find("EventIdentification")
        assert found is not None
        kinds = [code.get("csd-code", "") for code in found.findall("EventTypeCode")]
        event_id = found.find("EventID")
        assert event_id is not None
        return (
            event_id.get("csd-code", ""),
            "".join(kinds),
            found.get("EventActionCode", ""),
            found.get("EventOutcomeIndicator", ""),
        )

    @property
    def at(self) -> datetime:
        found = self.root.find("EventIdentification")
        assert found is not None
        return datetime.fromisoformat(found.get("EventDateTime", ""))

    @property
    def participants(self) -> list[tuple[str, str, bool]]:
        """Of each: its role or nothing, who it is, and whether it began this."""
        return [
            (
                "".join(code.get("csd-code", "") for code in each.findall("RoleIDCode")),
                each.get("UserID", ""),
                each.get("UserIsRequestor") == "true",
            )
            for each in self.root.findall("ActiveParticipant")
        ]

    @property
    def objects(self) -> list[tuple[str, str, str, str]]:
        """Of each: type, role, the code of its identifier's type, and the identifier."""
        found = []
        for each in self.root.findall("ParticipantObjectIdentification"):
            code = each.find("ParticipantObjectIDTypeCode")
            assert code is not None
            found.append(
                (
                    each.get("ParticipantObjectTypeCode", ""),
                    each.get("ParticipantObjectTypeCodeRole", ""),
                    code.get("csd-code", ""),
                    each.get("ParticipantObjectID", ""),
                )
            )
        return found

    def of_type(self, code: str) -> list[str]:
        """The identifiers of the objects whose type has this code."""
        return [identity for _, _, kind, identity in self.objects if kind == code]

    @property
    def details(self) -> dict[str, str]:
        found = self.root.iter("ParticipantObjectDetail")
        return {each.get("type", ""): base64.b64decode(each.get("value", "")).decode() for each in found}


def messages_in(folder: Path) -> Iterator[ReadMessage]:
    """Yield the messages of an audit log, which may be written meanwhile."""
    for file in sorted(folder.glob("audit-*.log")):
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                kind, content = line.rstrip(b"\n").split(b" ", 4)[3:]
                if kind == b"entry":
                    yield ReadMessage(content)
