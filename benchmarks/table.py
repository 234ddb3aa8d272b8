"""A Markdown table of medians, filled while the measuring goes on."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def shown(value: float) -> str:
    """Give three digits, and no more of them than a benchmark can vouch for."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


class Table:
    """Rows by their name, in the order in which they came; columns as given; a column compared with another."""

    def __init__(self, columns: Sequence[str], compared: tuple[str, str] | None = None, wanted: str = "") -> None:
        self._columns = list(columns)
        self._compared = compared
        self._wanted = wanted
        self.rows: dict[str, dict[str, list[float]]] = {}
        self._aims: dict[str, str] = {}

    def add(self, row: str, column: str, value: float, aim: str = "") -> None:
        """Add one measurement."""
        self.rows.setdefault(row, {}).setdefault(column, []).append(value)
        self._aims[row] = aim or self._aims.get(row, "")
        print(f"    {row}: {column} {shown(value)}", flush=True)

    def median(self, row: str, column: str) -> float | None:
        """Return the median of what was measured there, None where nothing was."""
        values = self.rows.get(row, {}).get(column)
        return statistics.median(values) if values else None

    def markdown(self, first: str) -> str:
        """Return the table; ``first`` is the head of the first column."""
        heads = [
            first,
            *self._columns,
            *(["ratio"] if self._compared else []),
            *([self._wanted] if self._wanted else []),
        ]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for row in self.rows:
            cells = [self._cell(row, column) for column in self._columns]
            if self._compared:
                cells.append(self._ratio(row, *self._compared))
            if self._wanted:
                cells.append(self._aims[row])
            lines.append("| " + " | ".join([row, *cells]) + " |")
        return "\n".join(lines)

    def _cell(self, row: str, column: str) -> str:
        value = self.median(row, column)
        return "" if value is None else shown(value)

    def _ratio(self, row: str, ours: str, theirs: str) -> str:
        """Return the median of the ratios of each turn: the computer may be twice as fast in one as in the next."""
        values = self.rows[row]
        columns = zip(values.get(ours, ()), values.get(theirs, ()), strict=False)
        pairs = [numerator / denominator for numerator, denominator in columns if denominator]
        return f"{statistics.median(pairs):.2f}" if pairs else ""
