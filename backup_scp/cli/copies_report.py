"""What ``backup-scp copies`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from backup_scp.cli.output import count, moment, say, size
from backup_scp.cli.table import print_table
from backup_scp.machine import clock
from backup_scp.machine.readable import duration

if TYPE_CHECKING:
    from backup_scp.node.copy_keys import CopyKeys
    from backup_scp.node.settings import Settings
    from backup_scp.ports import CopyState, DrillResult, PlaceAnswer
    from backup_scp.watch.cost import Cost

_HERE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What a command did at one copy.

    Attributes
    ----------
    name, medium
        The copy in the settings, and the ID of the drive that was here; empty where there is only one.
    trouble
        Why it ended early; empty when it did not.
    is_away
        Whether the trouble is only that no drive of this copy is connected.
    copied, copied_bytes
        Images that were written, read back and compared, and their bytes.
    failed, error
        Images that failed and are tried again later, and why the last one did.
    lost
        Images whose file in the archive is damaged or gone.
    left_out
        Earlier versions that another PACS cannot hold beside the one that answers.
    compared, damaged
        Images that were read back again, and those of them that are damaged or missing there.
    healed
        Damaged images of the archive that were restored from this copy.
    alarm
        What reading it back has noticed that is no damage, but needs a person.
    is_complete
        Whether nothing is due there any more.
    """

    name: str
    medium: str = ""
    trouble: str = ""
    is_away: bool = False
    copied: int = 0
    copied_bytes: int = 0
    failed: int = 0
    error: str = ""
    lost: int = 0
    left_out: int = 0
    compared: int = 0
    damaged: int = 0
    healed: int = 0
    alarm: str = ""
    is_complete: bool = False

    @property
    def needs_a_person(self) -> bool:
        """Whether something did not go as it should."""
        return bool((self.trouble and not self.is_away) or self.failed or self.lost or self.damaged or self.alarm)


@dataclass(slots=True)
class CopiesRun:
    """The result of a command on copies.

    Attributes
    ----------
    copies
        What it did at each.
    stopped
        Why it ended before all were done; empty when it did not.
    """

    copies: list[CopyOutcome] = field(default_factory=list)
    stopped: str = ""


def tell_states(settings: Settings, states: Sequence[CopyState]) -> None:
    """Print a table of all copies, and under it what is wrong."""
    rows = [_row(state) for state in states]
    reached = {state.name for state in states}
    rows += [(copy.name, "never reached", "", "", "", "") for copy in settings.copy if copy.name not in reached]
    print_table(("copy", "has", "due", "oldest due", "last reached", "read back"), rows)
    for line in _troubles(states):
        say(line)


def _row(state: CopyState) -> tuple[str, ...]:
    who = f"{state.name}: {state.label or state.medium}" if state.medium else state.name
    return (
        who,
        f"{count(state.held, 'image')}, {size(state.held_bytes)}",
        str(state.due) if state.due else "nothing",
        moment(state.oldest_due) if state.oldest_due else "",
        _reached(state),
        moment(state.compared_at) if state.compared_at else "after writing",
    )


def _reached(state: CopyState) -> str:
    """Return when it was last reached; a drive that was here a moment ago is here: the node looks all the time."""
    if state.seen_at is None:
        return "never"
    is_here = state.medium and clock.now() - state.seen_at < _HERE
    return "is here" if is_here else moment(state.seen_at)


def _troubles(states: Sequence[CopyState]) -> Iterator[str]:
    for state in states:
        if state.trouble and state.trouble_since:
            yield f"{state.name}, since {moment(state.trouble_since)}: {state.trouble}"
        if state.failed:
            yield f"{state.name}: {count(state.failed, 'image')} failed and tried again: {state.error}"
        if state.damaged:
            yield f"{state.name}: {count(state.damaged, 'image')} damaged or missing there, to be written again"
        if state.alarm:
            yield f"{state.name}: {state.alarm}"


def tell_drills(results: Sequence[DrillResult]) -> None:
    """Print the last drill of each copy."""
    for result in results:
        who = f"{result.copy}: {result.label or result.medium}" if result.medium else result.copy
        if result.compared:
            proved = f"the sealed bytes of {result.compared} of {count(result.tried, 'image')} were intact"
        else:
            proved = f"{result.came_back} of {count(result.tried, 'image')} came back"
        passed = "passed" if result.passed else f"FAILED, {count(result.problem_count, 'problem')}"
        rto = f"; everything back in {duration(result.everything_s)}" if result.everything_s is not None else ""
        say(f"Drill of {who}, {moment(result.ended_at)}: {passed}. {proved}{rto}")


def tell_run(run: CopiesRun) -> None:
    """Print what a command did at each copy."""
    for outcome in run.copies:
        for sentence in filter(None, (*_sentences(outcome), outcome.alarm)):
            say(f"{outcome.name}: {sentence}")
    if run.stopped:
        say(f"{run.stopped}. The same command goes on from here")


def _sentences(outcome: CopyOutcome) -> Iterator[str]:
    if outcome.copied:
        yield f"{count(outcome.copied, 'image')} written, read back and compared, {size(outcome.copied_bytes)}"
    if outcome.compared:
        yield f"{count(outcome.compared, 'image')} read back and compared"
    if outcome.damaged:
        yield f"{count(outcome.damaged, 'image')} damaged or missing there: to write again, copies sync {outcome.name}"
    if outcome.healed:
        yield f"{count(outcome.healed, 'image')} of the archive healed from here"
    if outcome.lost:
        yield f"{count(outcome.lost, 'image')} damaged or gone in the archive: backup-scp status lists them"
    if outcome.failed > outcome.lost:
        yield f"{count(outcome.failed - outcome.lost, 'image')} failed, tried again later: {outcome.error}"
    if outcome.trouble:
        yield outcome.trouble
    elif outcome.is_complete and not outcome.copied:
        yield "has everything"
    elif not (outcome.is_complete or outcome.failed or outcome.compared):
        yield "not everything is there yet: the node is copying, or what failed is tried again in a while"


def tell_cost(found: Cost) -> None:
    """Print what a year of each kind of copy costs."""
    say(f"A year brings {found.studies_a_year:,.0f} studies, {found.tb_a_year:.2f} TB; held are {found.tb_held:.2f} TB")
    rows = [
        ("external drives", found.drive, found.drive_study),
        ("bucket (S3)", found.bucket, found.bucket_study),
        ("cloud PACS", found.cloud_pacs, found.cloud_pacs_study),
    ]
    print_table(("copy", "a year", "a study"), [(name, f"${year:,.0f}", f"${each:.3f}") for name, year, each in rows])


def tell_keys(found: CopyKeys) -> None:
    """Print a key pair, and what to do with it."""
    if found.proved:
        say(f"The recovery key opens what is sealed for: {', '.join(found.proved)}")
        return
    for line in found.sheet.splitlines():
        say(line)
    if found.file:
        say(f"The sheet with the recovery key is in {found.file}: print it, then delete the file")
    say("Write into each [[copy]] that is to be sealed:")
    say(f'encrypt = ["{found.public_key}"]')


def tell_check(found: Sequence[PlaceAnswer]) -> None:
    """Print what a place really gives, and what to do about it."""
    print_table(
        ("", "question", "answer"), [("ok" if each.is_well else "TO DO", each.question, each.answer) for each in found]
    )
    for each in found:
        if each.fix:
            say(f"{each.question}: {each.fix}")
