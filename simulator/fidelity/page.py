"""A report as one HTML page that needs no other file: tables, curves over time, film strips."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentcraft.files import replacing
from latentcraft.simulator.fidelity.figures import Column, Figure, Table
from latentcraft.simulator.fidelity.plots import curves
from latentcraft.simulator.fidelity.report import (
    BETTER,
    Group,
    Report,
    after_at,
    groups,
    heading,
    interval,
    number,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .4em 0 1.4em } th, td { padding: .25em .8em; text-align: right }
th { font-weight: 600; border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left }
tr:nth-child(even) td { background: #f4f4f6 } small { color: #777 } p.note { color: #555; max-width: 70em }
h3 { margin-bottom: 0 } img, svg { max-width: 100%; height: auto } figure { margin: 1em 0 }
"""


def write_html(path: Path, report: Report, strips: Mapping[str, np.ndarray]) -> None:
    """Write the page, whole or not at all; it needs no other file.

    Args:
        path: the file.
        report: what it says.
        strips: film strips ``uint8 (H, W, 3)`` by caption.
    """
    with replacing(path) as temporary:
        temporary.write_text(page(report, strips), encoding="utf-8")


def page(report: Report, strips: Mapping[str, np.ndarray]) -> str:
    """Return the page."""
    parts = ["<h1>How true is the dream</h1>", _about(report.about)]
    for table in [*report.tables, *([report.timings] if report.timings else [])]:
        parts += [f"<h2>{html.escape(table.title)}</h2>", f'<p class="note">{html.escape(table.note)}</p>']
        made = groups(table.columns)
        drawn = {group.title: (group.times or [], group.columns) for group in made if len(group.times or []) > 1}
        if drawn:
            parts.append(f"<figure>{curves(table, drawn)}</figure>")
        parts += [_group_html(group, table) for group in made if group.several]
        alone = [group.columns[0] for group in made if not group.several]
        parts += [_alone_html(alone, table)] if alone else []
    if strips:
        parts.append("<h2>Film strips</h2>")
    for caption, picture in strips.items():
        parts.append(
            f"<figure><figcaption>{html.escape(caption)}</figcaption>"
            f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{encode_png(picture)}"></figure>'
        )
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>latentcraft evaluation</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _about(about: Mapping[str, Any]) -> str:
    said = {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in about.items()}
    lines = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(text)}</td></tr>" for key, text in said.items())
    return f"<details><summary>What was evaluated</summary><table>{lines}</table></details>"


def _group_html(group: Group, table: Table) -> str:
    figures = [row[column.key] for row in table.rows.values() for column in group.columns if column.key in row]
    heads = "".join(f"<th>{html.escape(after_at(column.key))}</th>" for column in group.columns)
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td>{''.join(_cell_html(row.get(c.key), c.digits) for c in group.columns)}</tr>"
        for name, row in table.rows.items()
    )
    title = html.escape(heading(group.title, group.columns[0], figures))
    return f"<h3>{title}</h3><table><tr><th></th>{heads}</tr>{lines}</table>"


def _alone_html(columns: Sequence[Column], table: Table) -> str:
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in table.rows)
    lines = ""
    for column in columns:
        unit = f" [{column.unit}]" if column.unit else ""
        better = f" <small>{BETTER[column.better]}</small>"
        cells = "".join(_cell_html(row.get(column.key), column.digits) for row in table.rows.values())
        lines += f"<tr><td>{html.escape(column.title + unit)}{better}</td>{cells}</tr>"
    return f"<table><tr><th></th>{heads}</tr>{lines}</table>"


def _cell_html(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "<td></td>"
    said = " ".join(part for part in (interval(figure, digits), f"n={figure.count}") if part)
    return f"<td>{number(figure.value, digits)} <small>{said}</small></td>"


def encode_png(picture: np.ndarray) -> str:
    """Return a picture ``uint8 (H, W, 3)`` as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decode_png(text: str) -> np.ndarray:
    """Return the picture of :func:`encode_png`."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
