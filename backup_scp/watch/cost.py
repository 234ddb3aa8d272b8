"""What a further copy costs in a year, by the clinic's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.ports import Index

_LOOK_BACK = timedelta(days=90)
_SHORTEST = timedelta(days=7)
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in dollars; docs/cost.md says where they come from.

    Attributes
    ----------
    drive, drive_tb, drive_years, drives
        Price of one drive, its size in TB, the years that it is used, and how many take turns.
    bucket_tb_month
        A TB in the bucket for a month.
    bucket_thousand_puts
        A thousand objects written.
    bucket_tb_out
        A TB read from the bucket: all of it once a year, for comparing and for a drill.
    cloud_pacs_study
        A study at a cloud PACS.
    """

    drive: float = 90
    drive_tb: float = 2
    drive_years: float = 4
    drives: int = 2
    bucket_tb_month: float = 6
    bucket_thousand_puts: float = 0.005
    bucket_tb_out: float = 10
    cloud_pacs_study: float = 1


@dataclass(frozen=True, slots=True)
class YearlyVolume:
    """How much a clinic receives and holds.

    Attributes
    ----------
    studies_a_year, images_a_year, tb_a_year
        Received in a year, at the rate of the last months.
    tb_held
        Held on average during the next year.
    """

    studies_a_year: float
    images_a_year: float
    tb_a_year: float
    tb_held: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What each kind of copy costs in the next year, in dollars.

    Attributes
    ----------
    studies_a_year, tb_a_year, tb_held
        The clinic's numbers that it was worked out from.
    drive, bucket, cloud_pacs
        A year of each.
    drive_study, bucket_study, cloud_pacs_study
        The same for each study received in that year; 0 without studies.
    """

    studies_a_year: float
    tb_a_year: float
    tb_held: float
    drive: float
    bucket: float
    cloud_pacs: float
    drive_study: float
    bucket_study: float
    cloud_pacs_study: float


def yearly_volume(index: Index, now: datetime) -> YearlyVolume:
    """Work out what a year brings from what the last three months brought.

    Raises
    ------
    IndexUnavailable
    """
    held, recent = index.holdings(), index.received_since(now - _LOOK_BACK)
    since = max(recent.first_at or now, now - _LOOK_BACK)
    a_year = _YEAR / max(now - since, _SHORTEST)
    tb_a_year = recent.size_bytes * a_year / 1e12
    return YearlyVolume(
        recent.studies * a_year, recent.instances * a_year, tb_a_year, held.size_bytes / 1e12 + tb_a_year / 2
    )


def cost(volume: YearlyVolume, prices: Prices) -> Cost:
    """Work out the costs of a year; docs/cost.md has the formulas."""
    drives = prices.drives * max(1, -(-volume.tb_held // prices.drive_tb))
    drive = drives * prices.drive / prices.drive_years
    stored = volume.tb_held * prices.bucket_tb_month * 12
    bucket = stored + volume.images_a_year / 1000 * prices.bucket_thousand_puts + volume.tb_held * prices.bucket_tb_out
    cloud_pacs = volume.studies_a_year * prices.cloud_pacs_study
    each = [total / volume.studies_a_year if volume.studies_a_year else 0 for total in (drive, bucket, cloud_pacs)]
    return Cost(volume.studies_a_year, volume.tb_a_year, volume.tb_held, drive, bucket, cloud_pacs, *each)
