"""Which clinics' images a restore sends: a console gets none of another clinic by mistake."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from backup_scp.cli.output import complain
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.cli.selecting import SelectionOptions
    from backup_scp.node.settings import Settings
    from backup_scp.ports import SiteScope, StudyReader
    from backup_scp.ports.versions import Selection


def clinics_for(settings: Settings, selected: SelectionOptions, to: str) -> SiteScope:
    """Return whose images are sent: those that the options name, else those that the destination may have."""
    from backup_scp.node.remote_aes import find_remote

    remote = find_remote(settings, to)
    if selected.site is not None or remote is None or remote.scope.sites is None:
        return selected.scope
    sites = ", ".join(map(_shown, sorted(remote.scope.sites)))
    complain(f"Only images of {sites} are sent to {remote.name}, as its [[remote]] says; --site sends others")
    return remote.scope


def require_one_clinic(index: StudyReader, selection: Selection) -> None:
    """Refuse a Patient ID that is two people: those of two clinics.

    Raises
    ------
    InvalidSelection
    """
    from backup_scp.dicom.attributes import Level
    from backup_scp.dicom.query.information_model import Query, SingleValue

    ids = [each.matching for each in selection.conditions if each.attribute.keyword == "PatientID"]
    if not any(isinstance(each, SingleValue) for each in ids):
        return
    sites: set[str] = set()
    asked = Query(Level.IMAGE, selection.conditions)
    with closing(index.seen_by(selection.scope).search_versions(asked)) as versions:
        for version in versions:
            sites.add(version.arrival.site)
            if len(sites) > 1:
                options = " or ".join(f"--site {_shown(site)}" for site in sorted(sites))
                raise InvalidSelection(f"Two clinics use this Patient ID, for two people: say {options}")


def _shown(site: str) -> str:
    return site or "''"
