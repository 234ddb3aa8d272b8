"""Print the summary of ``restore``: how many images arrived, which did not and why, and that nothing was lost."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from backup_scp.cli.output import LIST_LIMIT, count, moment, say, say_list, size
from backup_scp.cli.restore_summary import Missing
from backup_scp.machine.ownership import why_denied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backup_scp.ports import IndexReader, Match
    from backup_scp.services.restore_journal import Dropped
    from backup_scp.services.restore_result import Gap, Restore

_MOST_LOOKED_UP = 500  # series that are looked up in the index
_DUPLICATE = 0x0111


def missing(done: Restore, index: IndexReader, name: str) -> list[Missing]:
    """List the missing images by study and patient; ``name`` is the destination's."""
    series = _known_series(done.gaps, index)
    made: Counter[Missing] = Counter()
    for gap, images in done.gaps.items():
        made[_missing(gap, series.get(gap.series_instance_uid, {}), name)] += images
    return [_counted(one, images) for one, images in sorted(made.items(), key=lambda item: -item[1])]


def _known_series(gaps: Iterable[Gap], index: IndexReader) -> dict[str, Match]:
    from backup_scp.dicom.attributes import BY_KEYWORD
    from backup_scp.dicom.query.information_model import Condition, Level, Query, UIDList
    from backup_scp.errors import IndexUnavailable

    uids = list(dict.fromkeys(gap.series_instance_uid for gap in gaps if gap.series_instance_uid))[:_MOST_LOOKED_UP]
    if not uids:
        return {}
    shown = tuple(map(BY_KEYWORD.__getitem__, ("PatientID", "PatientName", "StudyDate", "Modality")))
    wanted = Condition(BY_KEYWORD["SeriesInstanceUID"], UIDList(tuple(uids)))
    try:
        with closing(index.search(Query(Level.SERIES, (wanted,), shown))) as found:
            return {match["SeriesInstanceUID"]: match for match in found}
    except IndexUnavailable:
        return {}


def _missing(gap: Gap, series: Match, name: str) -> Missing:
    from backup_scp.dimse.messages.dimse_status import meaning_of

    sop_class = _name_of(gap.sop_class_uid)
    reason = gap.reason.replace("The destination", name, 1)
    return Missing(
        reason=reason,
        status=gap.status,
        status_meaning=meaning_of(gap.status) if gap.status else "",
        sop_class=sop_class,
        sop_class_uid=gap.sop_class_uid,
        study_instance_uid=gap.study_instance_uid,
        modality=series.get("Modality", ""),
        patient_id=series.get("PatientID", ""),
        patient_name=series.get("PatientName", ""),
        study_date=series.get("StudyDate", ""),
        images=0,
    )


def _name_of(sop_class_uid: str) -> str:
    from backup_scp.dicom.uid_names import uid_name

    return uid_name(sop_class_uid)


def _counted(one: Missing, images: int) -> Missing:
    return replace(one, images=images)


def tell(done: Restore, lacking: list[Missing], name: str, already_there: int, dropped: Dropped) -> None:
    """Print the summary for a person."""
    if done.unmatched:
        say(f"{count(len(done.unmatched), 'line')} of the list {_match(len(done.unmatched))} no stored image:")
        say_list(done.unmatched, len(done.unmatched))
    if not done.selected:
        say("No stored image matches: look with backup-scp find")
        return
    _tell_what_is_there(done, name, already_there)
    _tell_of_earlier_runs(done, name, dropped)
    _tell_of_commitment(done, name)
    _tell_of_counting(done, name)
    if done.warnings:
        say(f"{images_of(len(done.warnings))} {_was(len(done.warnings))} accepted with a warning:")
        _list(Counter(outcome.reason.replace("The destination", name, 1) for outcome in done.warnings))
    if done.missing:
        _tell_what_is_missing(done, lacking, name)
        say("Nothing was lost: the archive has all images. Running the same command again is safe, and sends the rest")


def _tell_what_is_there(done: Restore, name: str, already_there: int) -> None:
    there = done.selected - done.missing
    if done.missing:
        not_there = f"{done.missing:,} {_is(done.missing)} not"
        say(f"{there:,} of {images_of(done.selected)} {_is(there)} on {name}. {not_there}")
    else:
        all_of_it = "The image" if done.selected == 1 else f"All {images_of(done.selected)}"
        say(f"{all_of_it} that {_was(done.selected)} asked for {_is(done.selected)} on {name}")
    if already_there:
        say(f"  {already_there:,} of them {_was(already_there)} there before")
    elif done.sent:
        say(f"  {done.sent:,} sent now ({size(done.size_bytes)}), each confirmed by {name}")


def _tell_of_earlier_runs(done: Restore, name: str, dropped: Dropped) -> None:
    if done.confirmed_at is not None:
        first, last = map(moment, done.confirmed_at)
        when = f"on {last}" if first == last else f"from {first} to {last}"
        say(f"  {done.confirmed_before:,} confirmed by {name} {when}, and not sent again")
        say(f"  If {name} has a new disk since then, run the command again with --again")
    if done.lacking:
        say(f"  {done.lacking:,} were confirmed before, but {name} does not have them now: they were sent again")
    if dropped.old or dropped.foreign:
        why = "long ago" if not dropped.foreign else "by other equipment or software of this name"
        say(f"  {sum(dropped):,} were confirmed {why}: these confirmations are no longer valid")


def _tell_of_commitment(done: Restore, name: str) -> None:
    if done.committed:
        say(f"{images_of(done.committed)} committed by {name}")
    if done.uncommitted:
        say(f"{images_of(len(done.uncommitted))} not confirmed committed: {done.no_commitment}")


def _tell_of_counting(done: Restore, name: str) -> None:
    from backup_scp.services.restored_study import Confirmation

    counts = Counter(study.confirmation for study in done.studies.values())
    if counted := counts[Confirmation.COUNTED]:
        say(f"  {name} lists all images of {count(counted, 'study')} (C-FIND)")
    if done.short:
        say(f"{name} confirmed all images of these studies, but lists fewer (C-FIND): look at it there.")
        say("Run the same command again later: it sends those studies again, unless it lists all by then")
        lines = (f"{uid}: {done.studies[uid].counted} of {done.studies[uid].arrived}" for uid in done.short)
        say_list(lines, len(done.short))


def _tell_what_is_missing(done: Restore, lacking: list[Missing], name: str) -> None:
    reasons = Counter[tuple[str, str, int]]()
    for one in lacking:
        reasons[one.reason, one.status_meaning, one.status] += one.images
    for (reason, meaning, status), images in reasons.most_common():
        of_it = [one for one in lacking if (one.reason, one.status) == (reason, status)]
        say()
        say(f"{images_of(images)} not sent: {reason}" + (f" ({meaning})" if meaning else ""))
        if advice := _advice(of_it):
            say(f"  {advice}")
        places = Counter[str]()
        for one in of_it:
            places[whose(one)] += one.images
        _list(places)
    say()
    if done.interrupted:
        say("It was interrupted")
    if done.stopped:
        say(f"It stopped: {done.stopped.replace('The destination', name, 1)}")
        if denied := why_denied([done.stopped]):
            say(f"  {denied}")
    if done.untried:
        say(f"{images_of(done.untried)} {_was(done.untried)} not tried" + (" before it ended" if done.stopped else ""))


def _advice(of_it: list[Missing]) -> str:
    if any(one.status == _DUPLICATE for one in of_it):
        return "It may have the images already: --commit asks whether it keeps them"
    if any("not accept" in one.reason or "accepts none" in one.reason for one in of_it):
        return "Restore these images to a folder or to a PACS"
    return ""


def whose(one: Missing) -> str:
    """Name the patient and the study of missing images."""
    patient = " ".join(filter(None, (one.patient_name, f"({one.patient_id})" if one.patient_id else "")))
    study = f"study of {one.study_date}" if one.study_date else f"study {one.study_instance_uid}"
    return ", ".join(filter(None, (patient, study, one.modality or one.sop_class)))


def _list(lines: Counter[str]) -> None:
    for line, images in lines.most_common(LIST_LIMIT):
        say(f"  {line}: {images_of(images)}")
    if len(lines) > LIST_LIMIT:
        rest = lines.total() - sum(images for _, images in lines.most_common(LIST_LIMIT))
        say(f"  and {images_of(rest)} more (--json lists them)")


def images_of(number: int) -> str:
    """Format a number of images."""
    return "1 image" if number == 1 else f"{number:,} images"


def _match(number: int) -> str:
    return "matches" if number == 1 else "match"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
