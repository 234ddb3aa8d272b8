"""backup-scp copies fetch."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of, takes_groups
from backup_scp.cli.output import count, print_json, progress, say, say_list
from backup_scp.cli.selecting import SelectionOptions
from backup_scp.errors import InvalidSelection

_AT_ONCE = 200


@dataclass(slots=True)
class FetchedImages:
    """What ``copies fetch`` did.

    Attributes
    ----------
    intact
        Selected images that were here, and intact.
    fetched
        Images that were damaged or missing, and are here again.
    missing
        Locations of those that did not come, with the reason.
    """

    intact: int = 0
    fetched: int = 0
    missing: dict[str, str] = field(default_factory=dict)


@takes_groups
def fetch(
    context: typer.Context,
    *,
    selected: SelectionOptions,
    everything: Annotated[bool, typer.Option("--all", help="All stored studies.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring back from the further copies what is damaged or missing here of the selected studies.

    It reads every selected image, and compares it. A damaged file is kept aside, never deleted. Without this command,
    an image that is damaged or missing is brought back when somebody asks for it.

    Exit code 0 when all of them are intact here now, 1 when one is not or nothing matches.
    """
    from backup_scp.node.audit_setup import reporting_on
    from backup_scp.node.opening import OpenStores
    from backup_scp.node.recovering import bringing_back
    from backup_scp.ports import Progress, Selection

    settings = settings_of(context, config)
    conditions = selected.conditions()
    if everything == bool(conditions):
        raise InvalidSelection("Say which: --study, --patient-id, --name, --since ..., or --all")
    done = FetchedImages()
    with ExitStack() as stack:
        storage = stack.enter_context(OpenStores(settings))
        stack.enter_context(reporting_on(storage))
        bring_back = bringing_back(storage, stack)
        show = stack.enter_context(progress("Fetching"))
        passed = 0
        for studies in storage.index.select_in_batches(Selection(conditions, all_versions=True, scope=selected.scope)):
            for start in range(0, len(studies), _AT_ONCE):
                some = studies[start : start + _AT_ONCE]
                lost = [held for held in some if not bring_back.is_whole(held.location, held.sha256)]
                done.intact += len(some) - len(lost)
                errors = bring_back.bring_all(lost)
                done.fetched += len(lost) - len(errors)
                done.missing |= errors
                passed += len(some)
                show(Progress(passed, 0))
    if json:
        print_json(done)
    else:
        _tell(done)
    if done.missing or not (done.intact or done.fetched):
        raise typer.Exit(1)


def _tell(done: FetchedImages) -> None:
    if not (done.intact or done.fetched or done.missing):
        say("Nothing matches")
        return
    say(f"{count(done.fetched, 'image')} brought back, {done.intact} intact here")
    if done.missing:
        say(f"{count(len(done.missing), 'image')} did not come:")
        say_list((f"{location}: {reason}" for location, reason in done.missing.items()), len(done.missing))
