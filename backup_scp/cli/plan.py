"""backup-scp plan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, moment, print_json, say, size

if TYPE_CHECKING:
    from backup_scp.node.plan import DisasterPlan
    from backup_scp.node.plan_copies import PlanCopy

_WIDTH = 90
_BLANK = "____________________________"


def plan(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Print this clinic's own disaster plan, for the wall: what to do when the archive's computer is gone.

    It is made from the settings, the state of the copies and the last drills: which copies exist and where, how old
    each is, what to buy, what to type in which order, how long it takes, who has the key and whom to tell ([plan] in
    the settings; blanks are filled in by pen). At its end stands what the HIPAA Security Rule asks for, line by line,
    with what fulfils it and what does not. It names no patient. Print it again when something changes.
    """
    settings = settings_of(context, config)
    from backup_scp.node.plan import disaster_plan

    made = disaster_plan(settings)
    if json:
        print_json(made)
        return
    for line in _lines(made):
        say(line)


def _lines(made: DisasterPlan) -> Iterator[str]:
    yield f"DISASTER PLAN FOR THE X-RAY IMAGES OF {(made.clinic or _BLANK).upper()}"
    holds = f"{count(made.studies, 'study')}, {count(made.images, 'image')}, {size(made.size_bytes)}"
    yield f"Made {moment(made.made_at)} by backup-scp {made.version}. The archive holds {holds}"
    yield from _heading("When the computer with the archive is gone, stolen, burnt or encrypted")
    yield from _steps(made)
    yield from _heading("The copies, in the order in which to try them")
    if not made.copies:
        yield "There is NO further copy. If the computer is lost, all images are lost."
    for number, copy in enumerate(made.copies, 1):
        yield from _copy(number, copy)
    yield from _heading("How long it takes")
    yield from _wrapped(made.how_long)
    yield from _heading("What to buy")
    yield from _listed(made.to_buy)
    yield from _heading("Who has the recovery key")
    yield made.key_holder or _BLANK
    yield from _heading("Whom to tell")
    yield from made.contacts or (_BLANK, _BLANK)
    yield from _wrapped("When patients' data may be in other hands: within 60 days (45 CFR 164.404 to 164.408)")
    yield from _heading("HIPAA Security Rule, contingency plan")
    for duty in made.duties:
        yield f"{duty.clause} {duty.title}"
        yield from _listed(duty.fulfilled, "  done:    ")
        yield from _listed(duty.missing, "  TO DO:   ")


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield text
    yield "-" * len(text)


def _steps(made: DisasterPlan) -> Iterator[str]:
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
        yield from _wrapped(step, f"{number}. ")


def _copy(number: int, copy: PlanCopy) -> Iterator[str]:
    where = "out of the building" if copy.is_off_site else "in the building"
    sealed = ", sealed" if copy.is_sealed else ""
    yield from _wrapped(f"{copy.name}: {copy.place} ({where}{sealed})", f"{number}. ")
    yield f"   type:    {copy.command}"
    yield from _listed([", ".join(copy.needs)], "   needs:   ")
    yield from _listed(copy.holds, "   has:     ")
    yield from _listed([copy.drill or "none yet"], "   drill:   ")


def _listed(texts: Iterable[str], mark: str = "  - ") -> Iterator[str]:
    for text in texts:
        yield from _wrapped(text, mark)


def _wrapped(text: str, mark: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False
    )
