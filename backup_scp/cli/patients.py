"""backup-scp patients: who is one person in two clinics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of, takes_groups
from backup_scp.cli.output import moment, print_json, say
from backup_scp.cli.table import print_table
from backup_scp.cli.users import command_line
from backup_scp.ports import PatientLink

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.ports import ClinicPatient
    from backup_scp.services.patient_links import PatientLinks

app = typer.Typer(no_args_is_help=True, help="Patients of two clinics who are one person.")

_ISSUER = "Issuer of Patient ID (0010,0021), where the images have one."


@dataclass(frozen=True, slots=True)
class PatientPair:
    """The options that name two patients."""

    patient_id: Annotated[str, typer.Option(metavar="ID", help="Patient ID at the first clinic.")]
    other_patient_id: Annotated[str, typer.Option(metavar="ID", help="Patient ID at the second clinic.")]
    site: Annotated[str, typer.Option(metavar="SITE", help="The first clinic: site of [[remote]].")] = ""
    other_site: Annotated[str, typer.Option(metavar="SITE", help="The second clinic.")] = ""
    issuer: Annotated[str, typer.Option(metavar="ISSUER", help=_ISSUER)] = ""
    other_issuer: Annotated[str, typer.Option(metavar="ISSUER", help=_ISSUER)] = ""


@dataclass(frozen=True, slots=True)
class ChangedLink:
    """What became of a link.

    Attributes
    ----------
    number
        Names it.
    done
        ``linked`` or ``unlinked``.
    """

    number: int
    done: str


@contextmanager
def _links(settings: Settings) -> Iterator[PatientLinks]:
    from backup_scp.node.audit_setup import audited_accounts
    from backup_scp.node.opening import OpenStores
    from backup_scp.ports import SEES_ALL
    from backup_scp.services.patient_links import PatientLinks

    with OpenStores(settings) as storage, audited_accounts(settings) as accounts:
        yield PatientLinks(accounts, storage.index.seen_by, SEES_ALL)


@app.command("links", cls=PlainCommand)
def list_links(
    context: typer.Context,
    most: Annotated[int, typer.Option("--last", min=1, metavar="NUMBER", help="How many, the newest first.")] = 50,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """List who was linked to whom, when and by whom; also what was taken back."""
    with _links(settings_of(context, config)) as links:
        found = links.listed(most)
    if json:
        print_json(found)
    elif not found:
        say("No patients are linked")
    else:
        rows = [(str(one.number), _named(one.one), _named(one.other), *_told(one)) for one in found]
        print_table(["LINK", "PATIENT", "IS ALSO", "LINKED", "TAKEN BACK"], rows)


@app.command("link", cls=PlainCommand)
@takes_groups
def link(
    context: typer.Context,
    *,
    pair: PatientPair,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Say that patients of two clinics are one person, after both were shown.

    No image changes. Users who see both clinics then find the studies of both at the page of a study. DICOM and
    DICOMweb answer as before.
    """
    from backup_scp.ports import ClinicPatient

    one = ClinicPatient(pair.site, pair.issuer, pair.patient_id)
    other = ClinicPatient(pair.other_site, pair.other_issuer, pair.other_patient_id)
    with _links(settings_of(context, config)) as links:
        if not yes:
            _show(links, one, other)
            if not typer.confirm("Are these one person?", err=True):
                raise typer.Exit(1)
        made = links.link(one, other, command_line())
    _tell(ChangedLink(made.number, "linked"), json=json)


@app.command("unlink", cls=PlainCommand)
def unlink(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the link, as  patients links  prints it.")],
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a link back: all is as before it. The list keeps who had linked, and who took it back."""
    with _links(settings_of(context, config)) as links:
        links.unlink(number, command_line())
    _tell(ChangedLink(number, "unlinked"), json=json)


def _show(links: PatientLinks, *patients: ClinicPatient) -> None:
    """Print what is known of patients."""
    for patient in patients:
        facts = links.facts(patient)
        known = (facts.name, facts.born, facts.sex, f"studies: {facts.studies}") if facts else ("no images",)
        say(f"{_named(patient)}: {', '.join(text or '-' for text in known)}")


def _tell(changed: ChangedLink, *, json: bool) -> None:
    if json:
        print_json(changed)
    else:
        say(f"Link {changed.number}: {changed.done}")


def _named(patient: ClinicPatient) -> str:
    issuer = f" ({patient.issuer})" if patient.issuer else ""
    return f"{patient.site or 'without a site'}: {patient.patient_id}{issuer}"


def _told(one: PatientLink) -> tuple[str, str]:
    """Return when and by whom it was linked, and taken back."""
    back = f"{moment(one.unlinked_at)} by {one.unlinked_by}" if one.unlinked_at else ""
    return f"{moment(one.linked_at)} by {one.linked_by}", back
