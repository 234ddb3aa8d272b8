"""``[alerts]``: what counts as an alarm, and whom it is told."""

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
    ca: str = ""

    def __post_init__(self) -> None:
        for address in (*self.email, *filter(None, [self.email_from])):
            if not re.fullmatch(r"[!-~]+@[!-~]+", address):
                raise ValueError(f"{address} is no e-mail address")
        if self.email and not re.fullmatch(r"[^\s/]+:\d{1,5}", self.smtp):
            raise ValueError('smtp: write "HOST:PORT" of the mail server that takes the e-mail')
        if self.webhook and not _URL.fullmatch(self.webhook):
            raise ValueError("webhook: write https://HOST/PATH (http only to this computer)")

    @property
    def has_channel(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self.email or self.webhook)
