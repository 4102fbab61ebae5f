"""A report: tables for the terminal, and one JSON file for programs (the page for people is page.py).

Columns whose keys differ only after an ``@`` (``psnr@0.2s``, ``psnr@1s``, ...) are one quantity at several times: they
are set side by side.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.fidelity.figures import Column, Figure, Table

FORMAT = "latentcraft-evaluation-1"
SECONDS = re.compile(r"^(\d+(?:\.\d+)?)s$")
"""What follows the ``@`` of a column key where it is a time."""
BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": ""}


@dataclass
class Report:
    """Everything an evaluation found."""

    about: dict[str, Any]
    """Checkpoint, settings, versions: JSON values, the same whenever the same is evaluated."""
    tables: list[Table]
    measured: dict[str, Any] = field(default_factory=dict)
    """What depends on the machine and the hour: JSON values."""
    timings: Table | None = None
    """Times and memory; not figures of the checkpoint."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what is not a number is null."""
        timings = None if self.timings is None else self.timings.to_json()
        tables = [table.to_json() for table in self.tables]
        return without_nan(
            {"format": FORMAT, "about": self.about, "tables": tables, "timings": timings, "measured": self.measured}
        )


@dataclass(frozen=True)
class Group:
    """Columns of one quantity, or one column alone."""

    title: str
    columns: list[Column]

    @property
    def several(self) -> bool:
        """Whether it is one quantity in several cases."""
        return "@" in self.columns[0].key

    @property
    def times(self) -> list[float] | None:
        """Seconds of each column, None unless all have one."""
        found = [SECONDS.match(after_at(column.key)) for column in self.columns]
        return [float(match[1]) for match in found if match] if all(found) else None


def after_at(key: str) -> str:
    """Return what follows the ``@`` of a column key."""
    return key.partition("@")[2]


def groups(columns: Sequence[Column]) -> list[Group]:
    """Put columns of one quantity together, in order."""
    by_name: dict[str, list[Column]] = {}
    for column in columns:
        by_name.setdefault(column.key.partition("@")[0], []).append(column)
    made = []
    for members in by_name.values():
        title = members[0].title
        # "PSNR, 0.2 s" and "PSNR, 1 s" are "PSNR".
        made.append(Group(title.rpartition(",")[0] or title if "@" in members[0].key else title, members))
    return made


# --- numbers --------------------------------------------------------------------------------------------------------


def number(value: float, digits: int) -> str:
    """Write a number; a dash where there is none."""
    return "–" if not math.isfinite(value) else f"{value:.{digits}f}"


def interval(figure: Figure, digits: int) -> str:
    """Write a figure's interval, empty where it has none."""
    if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return ""
    return f"[{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def counts(figures: Sequence[Figure]) -> str:
    """Write how many samples are behind figures."""
    known = sorted({figure.count for figure in figures})
    return "" if not known else f"n = {known[0]}" if len(known) == 1 else f"n = {known[0]} to {known[-1]}"


# --- terminal -------------------------------------------------------------------------------------------------------


def table_text(table: Table) -> str:
    """Return a table as text: a block for each quantity in several cases, one for all that stand alone."""
    blocks, alone = [f"== {table.title}"], []
    for group in groups(table.columns):
        if group.times is not None:
            blocks.append(_group_text(group, table.rows))
        elif group.several:
            figures = [row[column.key] for row in table.rows.values() for column in group.columns if column.key in row]
            blocks.append(heading(group.title, group.columns[0], figures))
            blocks.append(_alone_text([replace(c, title=after_at(c.key), unit="") for c in group.columns], table.rows))
        else:
            alone += group.columns
    if alone:
        blocks.append(_alone_text(alone, table.rows))
    return "\n".join(blocks)


def _group_text(group: Group, rows: Mapping[str, Mapping[str, Figure]]) -> str:
    """One quantity: rows are worlds, columns times."""
    figures = [row[column.key] for row in rows.values() for column in group.columns if column.key in row]
    same = len({figure.count for figure in figures}) == 1
    lines = [["", *(after_at(column.key) for column in group.columns)]]
    lines += [[name, *(_cell(row.get(c.key), c.digits, same) for c in group.columns)] for name, row in rows.items()]
    return f"{heading(group.title, group.columns[0], figures)}\n{aligned(lines)}"


def _alone_text(columns: Sequence[Column], rows: Mapping[str, Mapping[str, Figure]]) -> str:
    """Quantities that stand alone: rows are quantities, columns worlds."""
    lines = [["", *rows]]
    for column in columns:
        unit = f" [{column.unit}]" if column.unit else ""
        cells = [_cell(row.get(column.key), column.digits, False) for row in rows.values()]
        lines.append([column.title + unit, *cells])
    return aligned(lines)


def heading(title: str, column: Column, figures: Sequence[Figure]) -> str:
    """Write what a block of figures is: title, unit, which way is better, how many samples."""
    unit = f" [{column.unit}]" if column.unit else ""
    return ", ".join(part for part in (title + unit, BETTER[column.better], counts(figures)) if part)


def _cell(figure: Figure | None, digits: int, count_known: bool) -> str:
    if figure is None:
        return ""
    parts = [number(figure.value, digits), interval(figure, digits), "" if count_known else f"n={figure.count}"]
    return " ".join(part for part in parts if part)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns, the first one to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip


# --- files ----------------------------------------------------------------------------------------------------------


def write_json(path: Path, report: Report) -> None:
    """Write the report's JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Report:
    """Read what :func:`write_json` wrote.

    Raises:
        UserError: no such file, or not a report.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise UserError(f"{path} is no report of this version; give the report.json of latentcraft evaluate")
        timings = None if values["timings"] is None else _table(values["timings"])
        return Report(values["about"], [_table(each) for each in values["tables"]], values["measured"], timings)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable report ({' '.join(str(error).split())})") from error


def _table(values: dict[str, Any]) -> Table:
    rows = {name: {key: read_figure(figure) for key, figure in row.items()} for name, row in values["rows"].items()}
    return Table(values["key"], values["title"], [Column(**each) for each in values["columns"]], rows, values["note"])


def read_figure(values: dict[str, Any]) -> Figure:
    """Return a figure from its JSON values, null being no number."""
    value, low, high = (math.nan if values[key] is None else float(values[key]) for key in ("value", "low", "high"))
    return Figure(value, low, high, int(values["count"]))


def without_nan(value: Any) -> Any:
    """Return JSON values with null for what is not a number: NaN is no JSON."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
