"""A row of a table, as the statements take it and give it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Column name to value."""
