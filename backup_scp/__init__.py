"""A backup PACS that proves your x-rays can come back."""

__version__ = "0.2.0"
