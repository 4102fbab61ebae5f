"""Two reports side by side: ``latentcraft evaluate compare A.json B.json`` says which differences exceed the noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.figures import Column, Figure
from latentcraft.simulator.fidelity.report import Report, aligned, number, read_json

USAGE = "usage: latentcraft evaluate compare A.json B.json [all=true]"
CHANCE = 0.05
"""Share of differences between equals that exceed a 95 % interval."""
CONDITIONS = ("mode", "seed", "features", "games", "seconds")
"""Settings without which figures of two reports are no longer of the same games."""


@dataclass(frozen=True)
class Difference:
    """One figure in two reports."""

    table: str
    row: str
    column: Column
    a: Figure
    b: Figure

    @property
    def change(self) -> float:
        """B less A."""
        return self.b.value - self.a.value

    @property
    def noise(self) -> float:
        """Half width of the difference's 95 % interval, from the two intervals' sides that face each other.

        As if the two were independent. Reports of the same seeds vary together, so this is rather too wide.
        """
        upper, lower = (self.b, self.a) if self.change >= 0 else (self.a, self.b)
        return math.hypot(upper.value - upper.low, lower.high - lower.value)

    @property
    def exceeds(self) -> bool:
        """Whether the difference is larger than the noise."""
        return abs(self.change) > self.noise

    @property
    def verdict(self) -> str:
        """What B is against A, in a word."""
        if not self.exceeds:
            return "within noise"
        if self.column.better == "neither":
            return "differs"
        return "better" if (self.change > 0) == (self.column.better == "higher") else "worse"


def differences(a: Report, b: Report) -> Iterator[Difference]:
    """Yield every figure that both reports have as a number with an interval."""
    others = {table.key: table for table in b.tables}
    for table in a.tables:
        other = others.get(table.key)
        if other is None:
            continue
        for row, figures in table.rows.items():
            for column in table.columns:
                one, two = figures.get(column.key), other.rows.get(row, {}).get(column.key)
                if one is None or two is None:
                    continue
                found = Difference(table.title, row, column, one, two)
                if math.isfinite(found.change) and math.isfinite(found.noise):
                    yield found


def comparison(a: Report, b: Report, *, everything: bool = False) -> str:
    """Return what differs, as text.

    Args:
        a: a report.
        b: another.
        everything: list differences within the noise too.
    """
    found = list(differences(a, b))
    if not found:
        raise UserError("the two reports have no figure in common; evaluate the same worlds and studies")
    lines = [
        f"note: {key} is {a.about.get(key)} in A and {b.about.get(key)} in B; their figures are not of the same games"
        for key in CONDITIONS
        if a.about.get(key) != b.about.get(key)
    ]
    exceeding = [each for each in found if each.exceeds]
    listed = found if everything else exceeding
    if listed:
        cells = [["", "A", "B", "B - A", "95 % noise", "B is"]]
        for each in listed:
            digits = each.column.digits
            unit = f" [{each.column.unit}]" if each.column.unit else ""
            values = (each.a.value, each.b.value, each.change, each.noise)
            cells.append([f"{each.table}: {each.row}: {each.column.title}{unit}",
                          *(number(value, digits) for value in values), each.verdict])  # fmt: skip
        lines.append(aligned(cells))
    words = {word: sum(each.verdict == word for each in exceeding) for word in ("better", "worse", "differs")}
    said = ", ".join(f"{count} {word}" for word, count in words.items() if count) or "none"
    lines.append(
        f"{len(exceeding)} of {len(found)} figures differ by more than the noise ({said}); "
        f"of as many equal ones about {len(found) * CHANCE:.0f} would"
    )
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Run ``latentcraft evaluate compare``."""
    paths = [word for word in words if "=" not in word and not word.startswith("-")]
    rest = [word for word in words if word not in paths]
    if rest in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{__doc__}\n\nall=true lists every figure that both have.")
        return 0
    if len(paths) != 2 or any(word not in ("all=true", "all=false", "--all") for word in rest):
        raise UserError(f"give two reports; {USAGE}")
    a, b = (read_json(Path(path)) for path in paths)
    print(comparison(a, b, everything=bool({"all=true", "--all"} & set(rest))))
    return 0
