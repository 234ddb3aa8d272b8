"""A node's operations in any order, against a model: no accepted image is lost, and each finding is true."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.errors import ArchiveUnavailable
from backup_scp.ports import Selection
from backup_scp.services.archive_guard import ArchiveGuard, adopt
from backup_scp.services.rebuild import rebuild
from backup_scp.services.verify import verify
from tests.samples import dx, encode
from tests.stored import arrival, put_into_archive, stored_in

SENDERS = ("CONSOLE", "OTHER")
NUMBERS = st.integers(0, 2)


def sample(study: int, number: int, content: int):
    return encode(
        dx(study=str(study), number=number, PatientID=f"P{content % 2}", StudyDescription=f"Content {content}")
    )


class Life(RuleBasedStateMachine):
    """The model: instance to its versions (digest, sender), in the order of arrival; and which files are damaged."""

    @initialize()
    def begin(self) -> None:
        self.open = ExitStack()
        self.folder = Path(self.open.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "archive").mkdir()
        self.opened = ExitStack()
        self.stored = self.opened.enter_context(stored_in(self.folder))
        ArchiveGuard(self.stored.archive, self.stored.index).check()  # as a node does before it accepts anything
        self.clock = 0
        self.versions: dict[str, list[tuple[str, str]]] = {}
        self.locations: dict[str, str] = {}
        self.broken: set[str] = set()
        self.noticed: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "open"):
            self.opened.close()
            self.open.close()

    @rule(study=NUMBERS, number=NUMBERS, content=NUMBERS, sender=st.sampled_from(SENDERS))
    def store(self, study, number, content, sender):
        sent = sample(study, number, content)
        self.clock += 1
        accepted = self.stored.put(sent, self.clock, calling_ae_title=sender)
        known = self.versions.setdefault(sent.sop_instance_uid, [])
        assert accepted.repaired == (sent.sha256 in self.broken)
        if sent.sha256 not in {digest for digest, _ in known}:
            known.append((sent.sha256, sender))
        assert self.locations.setdefault(sent.sha256, accepted.location) == accepted.location
        self.broken.discard(sent.sha256)
        self.noticed.discard(sent.sha256)

    @rule(study=NUMBERS, number=NUMBERS, content=NUMBERS, others=st.integers(0, 2))
    def die_between_file_and_row(self, study, number, content, others):
        """The next start, or a repair, finds it: it counts from when it came."""
        sent = sample(study, number, content)
        if sent.sha256 in self.locations:
            return
        self.clock += 1
        held = put_into_archive(self.stored.archive, sent, arrival(self.clock, calling_ae_title="CONSOLE"))
        self.versions.setdefault(sent.sop_instance_uid, []).append((sent.sha256, "CONSOLE"))
        self.locations[sent.sha256] = held.location
        for further in range(others):  # come before it is found
            self.store(study, number, (content + 1 + further) % 3, ("OTHER", "CONSOLE")[further])
        verify(self.stored.archive, self.stored.index, repair=True)
        self.noticed |= self.broken

    @precondition(lambda self: len(self.locations) > len(self.broken))
    @rule(data=st.data(), how=st.sampled_from(["flip", "meta", "truncate", "delete"]))
    def damage(self, data, how):
        digest = data.draw(st.sampled_from(sorted(set(self.locations) - self.broken)))
        path = self.folder / "archive" / self.locations[digest]
        content = bytearray(path.read_bytes())
        content[{"flip": -1, "meta": 400}.get(how, 0)] ^= 1
        if how == "delete":
            path.unlink()
        else:
            path.write_bytes(content[:-3] if how == "truncate" else content)
        self.broken.add(digest)

    @rule()
    def verify(self):
        found = verify(self.stored.archive, self.stored.index)
        assert {f.location for f in [*found.damaged, *found.missing]} == {self.locations[d] for d in self.broken}
        assert (found.unindexed, found.unindexed_damaged) == ([], [])
        self.noticed |= self.broken

    @rule()
    def rebuild(self):
        archive = self.folder / "archive"
        if self.locations and not any((archive / location).exists() for location in self.locations.values()):
            with pytest.raises(ArchiveUnavailable, match="is the archive's drive connected"):
                rebuild(self.stored.archive, self.stored.index)
        else:
            rebuild(self.stored.archive, self.stored.index)

    @precondition(lambda self: not self.broken)
    @rule()
    def lose_the_index(self):
        self.opened.close()
        for file in self.folder.glob("index.sqlite*"):
            file.unlink()
        self.opened = ExitStack()
        self.stored = self.opened.enter_context(stored_in(self.folder))
        rebuild(self.stored.archive, self.stored.index)
        adopt(self.stored.archive, self.stored.index)

    @rule()
    def restart(self):
        self.opened.close()
        self.opened = ExitStack()
        self.stored = self.opened.enter_context(stored_in(self.folder))

    @invariant()
    def the_index_says_what_the_model_says(self):
        if not hasattr(self, "stored"):
            return
        index = self.stored.index
        every = {digest for versions in self.versions.values() for digest, _ in versions}
        assert {held.sha256 for held in index.select(Selection(all_versions=True))} == every
        answering = {
            v[-1][0] for v in ([each for each in known if each[1] == known[0][1]] for known in self.versions.values())
        }
        assert {held.sha256 for held in index.select(Selection())} == answering
        clashing = {d for known in self.versions.values() for d, sender in known if sender != known[0][1]}
        flagged = {v.sha256 for v in index.search_versions(Query(Level.IMAGE, (), ())) if "clash" in v.flags}
        assert flagged == clashing
        holdings = index.holdings()
        assert (holdings.versions, holdings.instances) == (len(every), len(self.versions))
        assert holdings.damaged == len(self.noticed)


Life.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a failure takes longer than a test may
)
TestLife = pytest.mark.timeout(300)(Life.TestCase)
