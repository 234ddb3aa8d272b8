"""Links between patients of two clinics who are one person (docs/adr/0068)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backup_scp.ports.sites import SiteScope


@dataclass(frozen=True, slots=True, order=True)
class ClinicPatient:
    """A patient, as one clinic knows it.

    Attributes
    ----------
    site
        The clinic; empty for images of a sender without a site.
    issuer
        Issuer of Patient ID (0010,0021); often empty.
    patient_id
        Patient ID (0010,0020).
    """

    site: str
    issuer: str
    patient_id: str


@dataclass(frozen=True, slots=True)
class PatientLink:
    """Somebody's word that two patients are one person; it stays on record when it is taken back.

    Attributes
    ----------
    number
        Names it, also in the audit.
    one, other
        The patients.
    linked_at, linked_by
        When, and who.
    unlinked_at, unlinked_by
        When it was taken back, and by whom; None and empty while it counts.
    """

    number: int
    one: ClinicPatient
    other: ClinicPatient
    linked_at: datetime
    linked_by: str
    unlinked_at: datetime | None = None
    unlinked_by: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it counts."""
        return self.unlinked_at is None

    def within(self, scope: SiteScope) -> bool:
        """Tell whether both clinics are among these: nobody else may learn of it."""
        return scope.holds(self.one.site) and scope.holds(self.other.site)

    def other_than(self, patient: ClinicPatient) -> ClinicPatient:
        """Return the patient at its other end."""
        return self.other if self.one == patient else self.one


class PatientLinkRecords(Protocol):
    """The links."""

    def link_patients(self, one: ClinicPatient, other: ClinicPatient, at: datetime, by: str) -> PatientLink:
        """Store a link.

        Raises
        ------
        InvalidSelection
            They are linked already.
        """

    def unlink_patients(self, number: int, at: datetime, by: str) -> bool:
        """Note that a link does not count any more; False when it did not count before."""

    def patient_link(self, number: int) -> PatientLink | None:
        """Find a link by its number, also one that does not count any more."""

    def patient_links(self, scope: SiteScope, most: int) -> list[PatientLink]:
        """Return the links between these clinics, the newest first, also those that do not count any more."""

    def links_of(self, patient: ClinicPatient, scope: SiteScope) -> list[PatientLink]:
        """Return the links of a patient to these clinics that count."""
