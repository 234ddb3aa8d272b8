"""Make findings of refused requests: the caller, the reason, and the fix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from backup_scp.dimse.association.access import ADD_REMOTE
from backup_scp.machine.readable import count, moment
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.settings import Settings
from backup_scp.ports import Rejection, ServiceKind

_RECENT = timedelta(days=1)
_JUST_NOW = timedelta(hours=4)
_BRINGS_IMAGES = frozenset({ServiceKind.STORE, ServiceKind.ASSOCIATION, ServiceKind.TLS})
_WHAT = {
    ServiceKind.ASSOCIATION: "call refused",
    ServiceKind.TLS: "TLS call refused",
    ServiceKind.STORE: "IMAGES REFUSED",
    ServiceKind.QUERY: "query refused",
    ServiceKind.RETRIEVE: "retrieve refused",
    ServiceKind.COMMITMENT: "Storage Commitment refused",
    ServiceKind.DESTINATION: "images did not arrive at",
    ServiceKind.CONTEXT: "service refused",
    ServiceKind.RELEASE: "Association left open",
    ServiceKind.PROOF: "images not committed",
}
_NEVER_URGENT = frozenset({ServiceKind.DESTINATION, ServiceKind.CONTEXT, ServiceKind.RELEASE})  # images came in
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_. -]")


def refused(rejections: Sequence[Rejection], settings: Settings, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each kind of refusal, until its caller succeeds or 30 days have passed.

    A person must act when images were refused.  Within a day, a person must also act when a configured remote AE was
    refused anything, or when a caller with an AE title was refused an Association: it may be a console that is not
    configured yet.  Everything else is only worth a look.

    It cannot wait while images do not come in: they, or a call of a configured remote AE, were refused in the last
    hours.  A stranger can call at any time, a scanner of the network too.
    """
    for rejection in rejections:
        severity = Severity.ACT if _is_urgent(rejection, settings, now) else Severity.NOTE
        times = f"{count(rejection.count, 'time')}, last {moment(rejection.last_at)}"
        sentence = f"{_who(rejection)}: {_WHAT[rejection.service]}{_to_whom(rejection)}, {times}: {rejection.reason}"
        can_wait = not _keeps_images_out(rejection, settings, now)
        aspect, subject = _aspect(rejection, settings), _who(rejection)
        yield Finding("refused", severity, sentence, _fix(rejection, settings), can_wait, aspect, subject)


def _is_urgent(rejection: Rejection, settings: Settings, now: datetime) -> bool:
    if rejection.service is ServiceKind.STORE:
        return True
    if rejection.service in _NEVER_URGENT or now - rejection.last_at > _RECENT:
        return False
    if rejection.service is ServiceKind.ASSOCIATION and rejection.calling_ae_title.strip():
        return True
    return _is_configured(rejection, settings)


def _aspect(rejection: Rejection, settings: Settings) -> str:
    if rejection.service is ServiceKind.STORE:
        return "images"
    return "configured" if _is_configured(rejection, settings) else "stranger"


def _keeps_images_out(rejection: Rejection, settings: Settings, now: datetime) -> bool:
    """Tell whether images of a console did not come in just now; who may call, and was refused images, is one."""
    if rejection.service not in _BRINGS_IMAGES or now - rejection.last_at > _JUST_NOW:
        return False
    return rejection.service is ServiceKind.STORE or _is_configured(rejection, settings)


def _is_configured(rejection: Rejection, settings: Settings) -> bool:
    return any(
        remote.ae_title == rejection.calling_ae_title or remote.host == rejection.address for remote in settings.remotes
    )


def _who(rejection: Rejection) -> str:
    return f"{rejection.calling_ae_title or 'a caller without a name'} at {rejection.address}"


def _to_whom(rejection: Rejection) -> str:
    return f" {rejection.called_ae_title}" if rejection.service is ServiceKind.DESTINATION else ""


def _fix(rejection: Rejection, settings: Settings) -> str:
    """Return the fix; for a caller that is missing in the settings, the lines to paste."""
    if rejection.fix != ADD_REMOTE:
        return rejection.fix
    block = [
        "[[remote]]",
        f"name = {json.dumps(_free_name(rejection.calling_ae_title, settings))}",
        f"ae_title = {json.dumps(rejection.calling_ae_title)}",
        f"host = {json.dumps(rejection.address)}",
    ]
    return "\n".join(["if it may, add this to the settings file and type  backup-scp reload:", *block])


def _free_name(ae_title: str, settings: Settings) -> str:
    """Return a name for an AE title that no other remote AE has."""
    name = _NOT_IN_A_NAME.sub("", ae_title).strip().lstrip("_. -").lower() or "remote"
    taken = {each.name for each in settings.remotes} | {each.ae_title for each in settings.remotes}
    return next(free for free in (name, *(f"{name}{n}" for n in range(2, len(taken) + 3))) if free not in taken)
