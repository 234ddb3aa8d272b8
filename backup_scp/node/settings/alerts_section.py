"""``[alerts]``: what counts as an alarm, whom it is told, and who is called while all is well."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

_URL = re.compile(r"https://[^/@]+.*|http://(localhost|127\.0\.0\.1|\[::1\])[:/].*")


class AlertsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts]``: thresholds for messages to a person, and whom to tell."""

    changed_studies: Annotated[int, Meta(ge=0)] = 30
    changed_studies_days: Annotated[float, Meta(gt=0)] = 7
    lost_images: Annotated[int, Meta(ge=0)] = 10
    email: tuple[str, ...] = ()
    email_from: str = ""
    smtp: str = ""
    smtp_security: Literal["", "starttls", "tls", "none"] = ""
    smtp_user: str = ""
    smtp_password_file: str = ""
    webhook: str = ""
    webhook_form: Literal["json", "ntfy", "teams", "slack"] = "json"
    heartbeat: str = ""
    heartbeat_minutes: Annotated[float, Meta(gt=0, le=1440)] = 5
    ca: str = ""

    def __post_init__(self) -> None:
        for address in (*self.email, *filter(None, [self.email_from])):
            if not re.fullmatch(r"[!-~]+@[!-~]+", address):
                raise ValueError(f"{address} is no e-mail address")
        if self.email and not re.fullmatch(r"[^\s/]+:\d{1,5}", self.smtp):
            raise ValueError('smtp: write "HOST:PORT" of the mail server that takes the e-mail')
        for name, url in (("webhook", self.webhook), ("heartbeat", self.heartbeat)):
            if url and not _URL.fullmatch(url):
                raise ValueError(f"{name}: write https://HOST/PATH (http only to this computer)")
        if self.webhook and self.webhook_form == "ntfy" and not re.fullmatch(r"[^?]+/[\w-]{1,64}(\?.*)?", self.webhook):
            raise ValueError("webhook: for ntfy write https://HOST/TOPIC")

    @property
    def has_channel(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self.email or self.webhook)
