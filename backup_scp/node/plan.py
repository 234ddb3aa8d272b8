"""Make the clinic's own disaster plan from its settings, its copies and its last drills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp import __version__
from backup_scp.machine import clock
from backup_scp.machine.readable import count, duration, moment, size
from backup_scp.node.opening import OpenStores
from backup_scp.node.plan_copies import PlanCopy, plan_copies
from backup_scp.node.settings import Settings
from backup_scp.ports import Holdings

_ROOM_FACTOR = 1.5
_LEAST_DISK_BYTES = 250e9
_PROVED_WITHIN = timedelta(days=70)


@dataclass(frozen=True, slots=True)
class PlanDuty:
    """What the HIPAA Security Rule asks for, and what of it this node does.

    Attributes
    ----------
    clause
        Of 45 CFR 164.308.
    title
        Its name there, and whether it is required or addressable.
    fulfilled
        What fulfils it.
    missing
        What does not: for a person to do.
    """

    clause: str
    title: str
    fulfilled: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DisasterPlan:
    """The plan.

    Attributes
    ----------
    made_at
        When; print it again when something changes.
    clinic, contacts, key_holder, spare_machine
        From [plan] in the settings.
    ae_title, port
        Under which consoles know the node.
    version
        Of backup-scp.
    studies, images, size_bytes
        What the archive holds.
    copies
        In the order in which to try them.
    to_buy
        What the new computer needs.
    how_long
        How long it takes, from the last drill.
    duties
        The contingency plan of HIPAA, line by line.
    """

    made_at: datetime
    clinic: str
    contacts: tuple[str, ...]
    key_holder: str
    spare_machine: str
    ae_title: str
    port: int
    version: str
    studies: int
    images: int
    size_bytes: int
    copies: tuple[PlanCopy, ...]
    to_buy: tuple[str, ...]
    how_long: str
    duties: tuple[PlanDuty, ...]


def disaster_plan(settings: Settings) -> DisasterPlan:
    """Make the plan.

    Raises
    ------
    IndexUnavailable
    """
    at = clock.now()
    with OpenStores(settings) as storage:
        held = storage.index.holdings()
        copies = plan_copies(settings.copy, storage.index.copies.states(at), storage.index.drills.latest())
    return DisasterPlan(
        made_at=at,
        clinic=settings.plan.clinic,
        contacts=settings.plan.contacts,
        key_holder=settings.plan.key_holder,
        spare_machine=settings.plan.spare_machine,
        ae_title=settings.node.ae_title,
        port=settings.node.port,
        version=__version__,
        studies=held.studies,
        images=held.versions,
        size_bytes=held.size_bytes,
        copies=copies,
        to_buy=tuple(_to_buy(settings, held, copies)),
        how_long=_how_long(copies),
        duties=tuple(_duties(settings, held, copies, at)),
    )


def _to_buy(settings: Settings, held: Holdings, copies: Sequence[PlanCopy]) -> Iterator[str]:
    if settings.plan.spare_machine:
        yield f"Use: {settings.plan.spare_machine}"
    disk = size(max(_ROOM_FACTOR * held.size_bytes, _LEAST_DISK_BYTES))
    yield f"A computer with Linux, Python 3.11 or newer, 8 GB of memory and {disk} of disk"
    yield "The same network address as before, or time to enter the new one at each console"
    if any(copy.command.startswith("backup-scp recover /") for copy in copies):
        yield "A free USB port"


def _how_long(copies: Sequence[PlanCopy]) -> str:
    known = [(copy.everything_s, copy.name) for copy in copies if copy.everything_s is not None]
    if not known:
        return "Not known: no drill has measured it. Type  backup-scp drill"
    everything_s, name = min(known)
    return f"About {duration(everything_s)} from {name}, as the last drill measured it, when everything is at hand"


# -- HIPAA, 45 CFR 164.308(a)(7)(ii) -----------------------------------------------------------------------------------


def _duties(settings: Settings, held: Holdings, copies: Sequence[PlanCopy], at: datetime) -> Iterator[PlanDuty]:
    yield PlanDuty("164.308(a)(7)(ii)(A)", "Data backup plan (required)", *_backup(settings, copies))
    yield PlanDuty("164.308(a)(7)(ii)(B)", "Disaster recovery plan (required)", *_recovery(settings, copies, at))
    yield PlanDuty("164.308(a)(7)(ii)(C)", "Emergency mode operation plan (required)", *_emergency(copies))
    yield PlanDuty("164.308(a)(7)(ii)(D)", "Testing and revision procedures (addressable)", *_testing(settings, copies))
    yield PlanDuty(
        "164.308(a)(7)(ii)(E)",
        "Applications and data criticality analysis (addressable)",
        (f"Known: {count(held.studies, 'study')}, {count(held.versions, 'image')}, {size(held.size_bytes)} of images",),
        (
            "Which programs and data are needed first, and how long you can work without each: ____________",
            "Other data than images, such as appointments, letters and accounts: they are not in these copies",
        ),
    )


_Lines = tuple[tuple[str, ...], tuple[str, ...]]


def _backup(settings: Settings, copies: Sequence[PlanCopy]) -> _Lines:
    fulfilled = ["Each image is stored exactly as received, and never overwritten or deleted"]
    missing = []
    if copies:
        fulfilled.append(
            f"{count(len(copies), 'further copy')}; each image is read back and compared after it was written there"
        )
    else:
        missing.append("There is no further copy: add a [[copy]] (docs/copies.md)")
    off_site = [copy.name for copy in copies if copy.is_off_site]
    if off_site:
        fulfilled.append(f"Out of the building: {', '.join(off_site)}")
    elif copies:
        missing.append("No copy is said to be out of the building: take a drive home each week (off_site), or add one")
    if copies and not settings.commitment.copies:
        missing.append("Consoles may delete before a copy has the image: set copies in [commitment]")
    return tuple(fulfilled), tuple(missing)


def _recovery(settings: Settings, copies: Sequence[PlanCopy], at: datetime) -> _Lines:
    fulfilled, missing = ["This plan: what to buy, what to type, in which order, how long it takes"], []
    proved = [copy.proved_at for copy in copies if copy.proved_at]
    if proved:
        fulfilled.append(f"A drill has proved that images come back, {moment(max(proved))}")
    if not proved or at - max(proved) > _PROVED_WITHIN:
        missing.append("No drill has proved lately that images come back: backup-scp drill")
    if any(copy.is_sealed for copy in copies) and not settings.plan.key_holder:
        missing.append("Who has the recovery key is not written down (key_holder in [plan]): ____________")
    if not settings.plan.contacts:
        missing.append("Who does it is not written down (contacts in [plan]): ____________")
    return tuple(fulfilled), tuple(missing)


def _emergency(copies: Sequence[PlanCopy]) -> _Lines:
    plain = [copy.name for copy in copies if copy.command.startswith("backup-scp recover /") and not copy.is_sealed]
    fulfilled = ["A new node takes images from the consoles at once, while old ones come back"]
    if plain:
        fulfilled.append(f"Without any node: a viewer opens the DICOMDIRs on the drive ({', '.join(plain)})")
    missing = [
        "How patients are treated while no images can be seen, and who decides that: ____________",
        "Who may have the drives and keys in an emergency, and where they are locked up: ____________",
    ]
    return tuple(fulfilled), tuple(missing)


def _testing(settings: Settings, copies: Sequence[PlanCopy]) -> _Lines:
    drill, fulfilled, missing = settings.drill, [], []
    if copies and drill.every_days:
        fulfilled.append(f"The node tries {drill.sample} images of each copy every {drill.every_days:g} days by itself")
    else:
        missing.append("The node tries no copy by itself: every_days in [drill] is 0, or there is no copy")
    fulfilled += [f"{copy.name}: last drill {copy.drill}" for copy in copies if copy.drill]
    missing += [f"{copy.name}: no drill yet: backup-scp drill {copy.name}" for copy in copies if not copy.drill]
    missing.append(
        "That people can do it: once a year somebody types these steps on a spare computer. Last: ____________"
    )
    return tuple(fulfilled), tuple(missing)
