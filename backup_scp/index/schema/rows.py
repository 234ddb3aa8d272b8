"""A row of a table, as the statements accept and return it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Values by column name."""
