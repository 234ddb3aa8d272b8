"""backup-scp setup: five questions, and the settings file."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from backup_scp.cli.conversation import Conversation
from backup_scp.cli.interruption import EXIT_CODE
from backup_scp.cli.options import ConfigOption, JSONOption, config_of
from backup_scp.cli.output import complain, print_json
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.cli.setup_questions import Questions


@dataclass(frozen=True, slots=True)
class SetUp:
    """What was decided.

    Attributes
    ----------
    file
        The settings file.
    written
        Whether it was written now.
    ae_title, host, port
        What to enter at the console; ``host`` and ``port`` in words.
    changed
        The settings that changed, as in ``[node] port`` and ``[[remote]] console``.
    steps
        What to do before the console can send, one sentence each.
    """

    file: str
    written: bool
    ae_title: str
    host: str
    port: str
    changed: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def setup(context: typer.Context, *, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Ask five questions, and write the settings: folder, AE title and port, console, second place, whom to tell.

    Enter takes what stands in brackets: what the settings say, or what was found on this computer. Console and mail
    server are tried at once. A settings file that is there keeps its comments and everything else. You see what
    changes, and nothing is written before you agree. Type it again to change something.
    """
    from backup_scp.cli.setup_questions import Questions
    from backup_scp.node.first_settings import settings_file

    logging.getLogger("backup_scp").addHandler(logging.NullHandler())  # it is told in words here
    file = settings_file(config_of(context, config))
    _require_terminal(file)
    talk = Conversation(is_beside=json)
    try:
        questions = Questions(talk, file)
        questions.ask()
        done = _written(talk, questions)
    except (typer.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        complain("Interrupted: nothing was written")
        raise typer.Exit(EXIT_CODE) from None
    if json:
        print_json(done)


def _require_terminal(file: Path | None) -> None:
    """Raise where nobody can be asked."""
    from backup_scp.node.first_settings import default_home
    from backup_scp.node.settings import SYSTEM_FILE

    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidSelection(
            "setup asks a person, and there is no terminal here. Write the settings by hand into "
            f"{file or default_home() / SYSTEM_FILE.name}: conf/backup-scp.toml explains each of them. Then type  "
            "backup-scp check"
        )


def _written(talk: Conversation, questions: Questions) -> SetUp:
    """Show what changes, write it when that is agreed, and tell what to do next."""
    from backup_scp.cli.setup_questions import tell_place
    from backup_scp.node import first_settings as first
    from backup_scp.node.reloading import changed

    draft = questions.draft
    ae_title, host, port = first.where_to_send(draft.settings)
    talk.tell()
    if not draft.is_changed:
        talk.tell(f"{draft.path} says all of this already: nothing is to be written.")
    else:
        talk.tell(f"{'New file' if draft.is_new else 'Changes in'} {draft.path}:")
        lines = (line for line in draft.difference if not line.startswith("@@"))
        talk.show([f"  {line.removeprefix('+') if draft.is_new else line}" for line in lines])
        if not talk.is_agreed("Write this?"):
            talk.tell("Nothing was written.")
            return SetUp(str(draft.path), False, ae_title, host, port)
        is_new = draft.is_new
        draft.write()
        if is_new:
            first.give_to_service(draft.path)
        talk.tell("Written.")
    steps = [
        *first.words_for_start(draft.before, draft.settings),
        *(f"Prepare the drive: backup-scp copies init {name}" for name in questions.new_copies),
    ]
    talk.tell()
    for number, step in enumerate(steps, 1):
        talk.tell(step, f"{number}. ")
    talk.tell("At the console enter:", f"{len(steps) + 1}. ")
    tell_place(talk, ae_title, host, port)
    talk.tell('Switch on automatic send there, and keep "delete after sending" off.', "   ")
    talk.tell("Press Echo there, send one image, and type: backup-scp status", f"{len(steps) + 2}. ")
    return SetUp(str(draft.path), draft.is_changed, ae_title, host, port, changed(draft.before, draft.settings), steps)
