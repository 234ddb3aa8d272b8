"""The sections of a settings file and their keys, with the checks of single values."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backup_scp.machine.hours import Hours
from backup_scp.machine.networks import network_of
from backup_scp.node.settings.alerts_section import AlertsSettings
from backup_scp.node.settings.audit_section import AuditSettings
from backup_scp.node.settings.openid_section import OpenIDSettings
from backup_scp.node.settings.remote_section import AETitle, RemoteSettings, ae_title, require_distinct
from backup_scp.ports import site_fault

Seconds = Annotated[float, Meta(gt=0)]


def _require_networks(proxies: tuple[str, ...]) -> None:
    for proxy in proxies:
        try:
            network_of(proxy)
        except ValueError:
            raise ValueError('proxies: name each by address or network, such as "10.0.0.0/24"') from None


class NodeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[node]``: the DIMSE service."""

    home: str = ""
    ae_title: AETitle = "BACKUP_SCP"
    host: Annotated[str, Meta(min_length=1)] = "0.0.0.0"  # noqa: S104 - consoles call over the network; permissions are set for each AE
    port: Annotated[int, Meta(ge=0, le=65535)] = 11112
    plain: bool = True
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    check_called_ae_title: bool = True
    trust_this_machine: bool = True
    strangers: Literal["store", "refuse"] = "store"
    proxies: tuple[str, ...] = ()
    maximum_associations: Annotated[int, Meta(ge=1)] = 64
    reserved_associations: Annotated[int, Meta(ge=0)] = 8
    maximum_associations_per_address: Annotated[int, Meta(ge=0)] = 16
    strict_hierarchy: bool = False
    get_without_roles: bool = False
    maximum_pdu_length: Annotated[int, Meta(ge=4096, le=16777216)] = 131072
    association_timeout_s: Seconds = 30
    idle_timeout_s: Seconds = 600
    network_timeout_s: Seconds = 60
    connect_timeout_s: Seconds = 10

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ae_title", ae_title(self.ae_title))
        _require_networks(self.proxies)


class TLSSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tls]``: certificates and keys for Associations."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 2762
    certificate: str = ""
    key: str = ""
    ca: str = ""


_ORIGIN = re.compile(r"https?://[^/?#@*\s]+")
_PUBLIC_URL = re.compile(r"https?://[^/?#@*\s]+(/[^?#\s]*)?")


class WebSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[web]``: DICOMweb."""

    enabled: bool = True
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8042
    certificate: str = ""
    key: str = ""
    ca: str = ""
    token_file: str = ""
    cors: tuple[str, ...] = ()
    public_url: str = ""
    proxies: tuple[str, ...] = ()
    session_minutes: Annotated[float, Meta(gt=0)] = 60
    session_hours: Annotated[float, Meta(gt=0)] = 12
    second_factor: Literal["optional", "required"] = "optional"
    openid_connect: OpenIDSettings = OpenIDSettings()

    def __post_init__(self) -> None:
        if self.public_url and not _PUBLIC_URL.fullmatch(self.public_url):
            raise ValueError('public_url: name scheme, host and path, such as "https://pacs.example/backup"')
        _require_networks(self.proxies)
        for origin in self.cors:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError('cors: name each page by scheme and host, such as "https://viewer.example"')


class ArchiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[archive]``: the folder of the files."""

    url: str = ""
    reserve_mb: Annotated[int, Meta(ge=0)] = 1000

    @property
    def reserve_bytes(self) -> int:
        """Number of bytes to leave free on the archive's disk."""
        return self.reserve_mb * 1_000_000


class IndexSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[index]``: the database that lists the stored images."""

    url: str = ""


class CommitmentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[commitment]``: Storage Commitment."""

    wait_s: Annotated[float, Meta(ge=0)] = 600
    retry_s: Seconds = 60
    retry_days: Annotated[float, Meta(gt=0)] = 7
    answer_s: Seconds = 60
    copies: Annotated[int, Meta(ge=0)] = 0
    off_site_copies: Annotated[int, Meta(ge=0)] = 0


class VerifySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[verify]``: how often the node reads all files again."""

    full_pass_days: Annotated[float, Meta(ge=0)] = 30


class DrillSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[drill]``: how often the node proves by itself that copies come back."""

    every_days: Annotated[float, Meta(ge=0)] = 30
    sample: Annotated[int, Meta(ge=1)] = 50
    full_every_days: Annotated[float, Meta(ge=0)] = 365


class PlanSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[plan]``: what the disaster plan says besides the other settings."""

    clinic: str = ""
    contacts: tuple[str, ...] = ()
    key_holder: str = ""
    spare_machine: str = ""


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: level and place of the log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    json: bool = False
    file: str = ""


_COPY_URL = re.compile(
    r"file:///.+|s3://[^/]+(/.*)?|rclone:[^:/]+:.*|dicom://[^@/]+@[^/]+|dicomweb\+https?://[^/]+(/.*)?"
)


class CopySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[copy]]``: a further place that keeps every image."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    url: Annotated[str, Meta(min_length=1)]
    off_site: Literal["", "yes", "no"] = ""
    encrypt: tuple[str, ...] = ()
    mb_per_s: Annotated[float, Meta(ge=0)] = 0
    gb_per_month: Annotated[float, Meta(ge=0)] = 0
    hours: str = ""
    compare_days: Annotated[float, Meta(ge=0)] = 90
    away_days: Annotated[float, Meta(ge=0)] = 8
    lock_days: Annotated[int, Meta(ge=0)] = 0
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key_file: str = ""
    checksum: Literal["", "sha256", "none"] = ""
    ca: str = ""
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    rclone_config: str = ""
    brings_sites: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\W_][\w. -]*", self.name):
            raise ValueError("a name is letters, digits, blanks, dots, hyphens and underscores")
        if not _COPY_URL.fullmatch(self.url):
            raise ValueError(
                "url: write file:///FOLDER, s3://BUCKET/PREFIX, rclone:REMOTE:PATH, dicom://AE_TITLE@HOST:PORT "
                "or dicomweb+https://HOST/PATH"
            )
        if fault := next(filter(None, map(site_fault, self.brings_sites)), ""):
            raise ValueError(f"brings_sites: {fault}")
        if self.brings_sites and not self.url.startswith("dicomweb"):
            raise ValueError("brings_sites is for dicomweb+https:// alone; for dicom:// it stands in the [[remote]]")
        if self.hours:
            try:
                Hours.parse(self.hours)
            except ValueError as error:
                raise ValueError(f"hours: {error}") from None

    @property
    def is_off_site(self) -> bool:
        """Whether a fire in the building leaves it: as it says, else all but a drive."""
        return self.off_site == "yes" if self.off_site else not self.url.startswith("file:")


class Sections(Struct, frozen=True, forbid_unknown_fields=True):
    """All sections of a settings file."""

    node: NodeSettings = NodeSettings()
    tls: TLSSettings = TLSSettings()
    web: WebSettings = WebSettings()
    archive: ArchiveSettings = ArchiveSettings()
    index: IndexSettings = IndexSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    verify: VerifySettings = VerifySettings()
    alerts: AlertsSettings = AlertsSettings()
    audit: AuditSettings = AuditSettings()
    drill: DrillSettings = DrillSettings()
    plan: PlanSettings = PlanSettings()
    log: LogSettings = LogSettings()
    remote: tuple[RemoteSettings, ...] = ()
    copy: tuple[CopySettings, ...] = ()

    def __post_init__(self) -> None:
        require_distinct(self.remote)
        names = [copy.name for copy in self.copy]
        if again := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"two [[copy]] have the name {again}: give each its own")
        urls = [copy.url.rstrip("/") for copy in self.copy]
        if again := next((url for url in urls if urls.count(url) > 1), ""):
            raise ValueError("two [[copy]] have one url: drives that take turns are one [[copy]]")
