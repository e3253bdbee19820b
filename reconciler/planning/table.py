"""Aligned columns, for people."""

from collections.abc import Sequence

from reconciler.planning.text import plain


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Every column as wide as its widest cell; cells pass the terminal's escaper."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
