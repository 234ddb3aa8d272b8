"""What ``backup-scp drill`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backup_scp.cli.output import count, moment, print_json, say, say_list, size
from backup_scp.machine.readable import duration
from backup_scp.ports import DrillResult


@dataclass(frozen=True, slots=True)
class DrillNotDone:
    """A copy that could not be tried.

    Attributes
    ----------
    copy
        Its name.
    trouble
        Why.
    is_away
        Whether it is only that no drive of it is connected.
    """

    copy: str
    trouble: str
    is_away: bool


@dataclass(slots=True)
class DrillRun:
    """The result of the command.

    Attributes
    ----------
    drills
        The result for each copy that was tried.
    not_done
        The copies that could not be tried.
    stopped
        Why it ended early; empty when it did not.
    """

    drills: list[DrillResult] = field(default_factory=list)
    not_done: list[DrillNotDone] = field(default_factory=list)
    stopped: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Whether something is wrong, or nothing was proved at all."""
        failed = not all(result.passed for result in self.drills)
        return failed or not self.drills or any(not one.is_away for one in self.not_done)


def tell(run: DrillRun, *, json: bool) -> None:
    """Print the result of each copy, and what is wrong."""
    if json:
        print_json(run)
        return
    for result in run.drills:
        for line in _lines(result):
            say(line)
        say_list((_problem(result, number) for number in range(len(result.problems))), result.problem_count)
        for sentence in result.unproven:
            say(f"  not proved: {sentence}")
    for one in run.not_done:
        say(f"{one.copy}: NOT TRIED. {one.trouble}")
    if run.stopped:
        say(f"{run.stopped}. Nothing was changed")


def _lines(result: DrillResult) -> Iterator[str]:
    who = f"{result.copy} ({result.label})" if result.label else result.copy
    if result.compared:
        images = f"{result.compared} of {count(result.tried, 'image')}: the sealed bytes are intact"
    else:
        pixels = f"{size(result.size_bytes)}; pixels of {result.decoded} compared"
        images = f"{result.came_back} of {count(result.tried, 'image')} came back, byte for byte ({pixels})"
    if not result.tried:
        images = "No image was tried"
    yield f"{who}: {'passed' if result.passed else 'FAILED'}. {images}"
    if result.index_taken_at:
        lacks = (
            f"; {count(result.index_lacks, 'image')} that came later only in the lists" if result.index_lacks else ""
        )
        yield f"  index there of {moment(result.index_taken_at)}{lacks}"
    if result.first_study_s is not None and result.everything_s is not None:
        everything = f"everything ({count(result.held, 'image')}, {size(result.held_bytes)})"
        first = duration(result.first_study_s)
        yield f"  back on a console: the first study in {first}, {everything} in {duration(result.everything_s)}"


def _problem(result: DrillResult, number: int) -> str:
    problem = result.problems[number]
    image = f" image {problem.sop_instance_uid}:" if problem.sop_instance_uid else ""
    return f"{problem.kind}:{image} {problem.sentence}"
