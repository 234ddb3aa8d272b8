"""backup-scp plan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import complain, count, moment, print_json, say, size
from backup_scp.errors import InvalidSelection
from backup_scp.receipts.page import Line, Page, Section

if TYPE_CHECKING:
    from backup_scp.node.plan import DisasterPlan
    from backup_scp.receipts.new_file import NewDocument

_WIDTH = 90
_MARK_WIDTH = 11
_DASH = "  -"
_WITHIN = "When patients' data may be in other hands: within 60 days (45 CFR 164.404 to 164.408)"
_BLANK = "____________________________"


class Paper(StrEnum):
    """Sheets of paper."""

    A4 = "a4"
    LETTER = "letter"


def plan(
    context: typer.Context,
    *,
    pdf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it as PDF instead: one sheet. It needs backup-scp[receipts]."),
    ] = None,
    paper: Annotated[Paper, typer.Option(help="Of the PDF.")] = Paper.A4,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Print this clinic's own disaster plan, for the wall: what to do when the archive's computer is gone.

    It is made from the settings, the state of the copies and the last drills: which copies exist and where, how old
    each is, what to buy, what to type in which order, how long it takes, who has the key and whom to tell ([plan] in
    the settings; blanks are filled in by pen). At its end stands what the HIPAA Security Rule asks for, line by line,
    with what fulfils it and what does not. It names no patient. Print it again when something changes.
    """
    settings = settings_of(context, config)
    from backup_scp.node.plan import disaster_plan

    file = _pdf_file(pdf) if pdf else None
    made = disaster_plan(settings)
    if file:
        written = file.write(partial(_write_pdf, _page(made), paper=paper))
        (complain if json else say)(f"The plan is {written}: print it, and hang it up")
    if json:
        print_json(made)
    elif not file:
        for line in _lines(_page(made)):
            say(line)


def _pdf_file(path: Path) -> NewDocument:
    """Return the file to write; raise when that cannot be.

    Raises
    ------
    InvalidSelection, DestinationUnavailable
    """
    from backup_scp.receipts.new_file import NewDocument

    try:
        import backup_scp.receipts.pdf_page  # noqa: F401 - only to know whether its library is here
    except ModuleNotFoundError as error:
        fix = "pip install 'backup-scp[receipts]'"
        raise InvalidSelection(f"A plan in PDF needs the library {error.name}: {fix}") from None
    return NewDocument(path, "plan")


def _write_pdf(page: Page, stream: BinaryIO, *, paper: Paper) -> None:
    from backup_scp.receipts.pdf_page import write_page

    write_page(page, stream, paper.value)


def _lines(page: Page) -> Iterator[str]:
    """Yield the page as text."""
    yield page.title
    yield from _wrapped(page.lines)
    for section in page.sections:
        yield from ("", section.heading, "-" * len(section.heading))
        yield from _wrapped(section.lines)


def _wrapped(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        mark = line.mark and f"{line.mark:{_MARK_WIDTH if line.mark[-1] == ':' else 0}} "
        if line.is_typed:
            yield f"{mark}{line.text}"
        else:
            yield from textwrap.wrap(
                line.text, _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False
            )


def _page(made: DisasterPlan) -> Page:
    holds = f"{count(made.studies, 'study')}, {count(made.images, 'image')}, {size(made.size_bytes)}"
    return Page(
        f"DISASTER PLAN FOR THE X-RAY IMAGES OF {(made.clinic or _BLANK).upper()}",
        (Line(f"Made {moment(made.made_at)} by backup-scp {made.version}. The archive holds {holds}"),),
        (
            Section("When the computer with the archive is gone, stolen, burnt or encrypted", tuple(_steps(made))),
            Section("The copies, in the order in which to try them", tuple(_copies(made))),
            Section("How long it takes", (Line(made.how_long),)),
            Section("What to buy", tuple(Line(each, _DASH) for each in made.to_buy)),
            Section("Who has the recovery key", (Line(made.key_holder or _BLANK),)),
            Section("Whom to tell", (*(map(Line, made.contacts or (_BLANK, _BLANK))), Line(_WITHIN))),
            Section("HIPAA Security Rule, contingency plan", tuple(_duties(made))),
        ),
    )


def _steps(made: DisasterPlan) -> Iterator[Line]:
    steps = [
        "Keep calm. After a virus, connect no drive to a computer that was in the same network.",
        "Let the consoles keep their images: delete nothing there.",
        "Get a computer (below), and install backup-scp: pip install backup-scp",
        "Take the first copy below that you can reach, and type its command.",
        f"Give the new computer the old address. Consoles call it {made.ae_title}, port {made.port}.",
        "Type  backup-scp status  until nothing is to do. Look at one old and one new study on a console.",
        "Print this plan again.",
    ]
    for number, step in enumerate(steps, 1):
        yield Line(step, f"{number}.")


def _copies(made: DisasterPlan) -> Iterator[Line]:
    if not made.copies:
        yield Line("There is NO further copy. If the computer is lost, all images are lost.")
    for number, copy in enumerate(made.copies, 1):
        where = "out of the building" if copy.is_off_site else "in the building"
        sealed = ", sealed" if copy.is_sealed else ""
        yield Line(f"{copy.name}: {copy.place} ({where}{sealed})", f"{number}.")
        yield Line(copy.command, "   type:", is_typed=True)
        yield Line(", ".join(copy.needs), "   needs:")
        yield from (Line(each, "   has:") for each in copy.holds)
        yield Line(copy.drill or "none yet", "   drill:")


def _duties(made: DisasterPlan) -> Iterator[Line]:
    for duty in made.duties:
        yield Line(f"{duty.clause} {duty.title}")
        yield from (Line(each, "  done:") for each in duty.fulfilled)
        yield from (Line(each, "  TO DO:") for each in duty.missing)
