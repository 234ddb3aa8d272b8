"""What the settings call a mass change."""

from __future__ import annotations

from datetime import datetime, timedelta

from backup_scp.machine import clock
from backup_scp.node.settings import Settings
from backup_scp.ports import IndexRecords, MassChange


def mass_changes(settings: Settings, index: IndexRecords, since: datetime | None = None) -> list[MassChange]:
    """List the senders that changed more studies than the settings allow, in their days, or since a later moment."""
    alerts = settings.alerts
    begin = clock.now() - timedelta(days=alerts.changed_studies_days)
    begin = max(begin, since) if since else begin
    return index.storms(begin, alerts.changed_studies) if alerts.changed_studies else []
