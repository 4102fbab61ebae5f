"""Curves over time, one small plot a quantity, as SVG text that stands in a page."""

import io
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.figures import Column, Table

MARKS = {"codec ceiling": "#2a9d4a", "copy-last floor": "#888888", "reference": "#222222"}
"""Colours of the rows that mark the scale."""
COLOURS = ("#2266cc", "#cc3311", "#aa44aa", "#dd8800", "#117788", "#775533")
"""Of the other rows in order, the dream first."""
PLOT_SIZE = (4.6, 3.0)
"""Inches of one plot."""
PLOTS_IN_A_ROW = 3
LOGARITHMIC_FROM = 10.0
"""Ratio of the last time to the first from which time is drawn logarithmically."""


def check_installed() -> None:
    """Raise a UserError unless matplotlib is there."""
    if find_spec("matplotlib") is None:
        raise UserError("matplotlib is not installed; pip install 'latentcraft[eval]'")


def blank(width: float, height: float) -> Any:
    """Return an empty ``matplotlib.figure.Figure`` of so many inches, which needs no display.

    Raises:
        UserError: matplotlib is not installed.
    """
    check_installed()
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(width, height), layout="constrained")


def curves(table: Table, quantities: Mapping[str, tuple[Sequence[float], Sequence[Column]]]) -> str:
    """Draw every quantity over time, a line and its 95 % band for each row.

    Args:
        table: the figures.
        quantities: by title, the seconds and the columns at them.

    Raises:
        UserError: matplotlib is not installed.
    """
    check_installed()
    import matplotlib

    across = min(len(quantities), PLOTS_IN_A_ROW)
    down = -(-len(quantities) // across)
    # Text as text, and ids from a fixed salt: the same figures make the same page.
    with matplotlib.rc_context({"svg.hashsalt": table.key, "svg.fonttype": "none", "font.size": 9}):
        drawing = blank(across * PLOT_SIZE[0], down * PLOT_SIZE[1])
        plots = drawing.subplots(down, across, squeeze=False).reshape(-1)
        for plot in plots[len(quantities) :]:
            plot.set_axis_off()
        for plot, (title, (times, columns)) in zip(plots, quantities.items(), strict=False):
            _draw(plot, table, times, columns)
            plot.set_title(title + (f" [{columns[0].unit}]" if columns[0].unit else ""), fontsize=10)
            if times[-1] >= LOGARITHMIC_FROM * times[0] > 0:
                plot.set_xscale("log")
            plot.set_xticks(times, [f"{time:g}" for time in times])
            plot.minorticks_off()
            plot.set_xlabel("seconds")
            plot.grid(alpha=0.3)
        plots[0].legend(fontsize=8)
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    # What stands before the element belongs to a file of its own; ids must differ between the pictures of a page.
    svg = buffer.getvalue()
    return re.sub(r'((?:\bid|href)="#?|url\(#)', rf"\g<1>{table.key}-", svg[svg.index("<svg") :])


def _draw(plot: object, table: Table, times: Sequence[float], columns: Sequence[Column]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(plot, Axes)
    others = [name for name in table.rows if name not in MARKS]
    for name, row in table.rows.items():
        known = [(time, row[column.key]) for time, column in zip(times, columns, strict=True) if column.key in row]
        known = [(time, figure) for time, figure in known if np.isfinite(figure.value)]
        if not known:
            continue
        seconds, figures = zip(*known, strict=True)
        colour = MARKS[name] if name in MARKS else COLOURS[others.index(name) % len(COLOURS)]
        plot.plot(seconds, [figure.value for figure in figures], "o-", color=colour, label=name, ms=3, lw=1.5)
        low, high = [figure.low for figure in figures], [figure.high for figure in figures]
        if np.isfinite([*low, *high]).all():
            plot.fill_between(seconds, low, high, color=colour, alpha=0.15, lw=0)
