"""``latentcraft scaling``: how much better training makes a world, over what it cost.

Reads finished runs of ``latentcraft train`` that differ in size or budget. Each validation of a transformer is a point:
its FLOPs (steps times the counted FLOPs of a step) and its loss. Where a run's folder holds an evaluation too
(``evaluate out=RUN/evaluation``) its Fréchet distance is a point of its own. A power law is fitted to the frontier, the
points that no cheaper one beats, as in "Scaling Laws for Neural Language Models" (arXiv 2001.08361).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.fidelity.plots import blank

LOG = "dynamics.log.jsonl"
LOSS, GUESS = "from_noise", "moved"
"""What the transformer's stage calls its error and the guess's (:mod:`latentcraft.model.train.dynamics`)."""
REPORT = Path("evaluation") / "report.json"
FRECHET = ("replay", "dream", "frames_fd@10s")
"""Table, row and column of a report."""


@dataclass(frozen=True)
class ScalingConfig:
    """Keys of ``latentcraft scaling``."""

    runs: tuple[Path, ...]
    """Folders of trainings."""
    out: Path
    """Folder for ``scaling.json`` and ``scaling.png``."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError("runs must be two or more folders of latentcraft train, runs=[DIR,DIR,...]")


class Point(NamedTuple):
    """One net at one moment."""

    flops: float
    """Spent on training its transformer."""
    value: float
    """Smaller is better."""


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    parameters: int
    """Of its transformer."""
    losses: tuple[Point, ...]
    """Every validation, oldest first."""
    guess: float
    """Loss of saying what the guess alone says."""
    frechet: Point | None
    """Of the finished net, where it was evaluated."""


@dataclass(frozen=True)
class Law:
    """``value = scale * (flops / 1e15) ** -exponent``."""

    exponent: float
    scale: float
    fit: float
    """Share of the variance of the logarithms that it explains, R squared."""
    points: int

    def at(self, flops: float) -> float:
        """Return the value it foretells."""
        return float(self.scale * (flops / 1e15) ** -self.exponent)


def main(config: ScalingConfig) -> int:
    """Run ``latentcraft scaling``."""
    runs = [read_run(path) for path in config.runs]
    laws = {
        "loss": fit(frontier([point for run in runs for point in run.losses])),
        "frechet": fit(frontier([run.frechet for run in runs if run.frechet is not None])),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    found = {"runs": [vars(run) for run in runs], "laws": {key: law and vars(law) for key, law in laws.items()}}
    with replacing(config.out / "scaling.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(runs, laws, config.out / "scaling.png")
    print(table(runs, laws))
    print(f"written to {config.out / 'scaling.json'} and scaling.png")
    return 0


def read_run(path: Path) -> Run:
    """Read one training's folder.

    Raises:
        UserError: it holds no training, or one that has not come to a validation yet.
    """
    from latentcraft.configs.schema import build
    from latentcraft.model.train.config import TrainConfig
    from latentcraft.model.train.sizes import sizes

    try:
        described = json.loads((path / "config.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in (path / LOG).read_text(encoding="utf-8").splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} holds no finished training ({error}); give the out= of latentcraft train") from error
    described.pop("resolved_precision", None)
    counted = sizes(build(described, TrainConfig))
    checks = [line for line in lines if LOSS in line]
    if not checks:
        raise UserError(f"{path} has no validation yet; train on, or with a smaller sample_every")
    losses = tuple(Point(line["step"] * counted.train_flops, line[LOSS]) for line in checks)
    return Run(path.name, counted.parameters, losses, checks[-1][GUESS], read_frechet(path / REPORT, losses[-1].flops))


def read_frechet(path: Path, flops: float) -> Point | None:
    """Return the Fréchet distance that an evaluation reports; None where there is none."""
    if not path.exists():
        return None
    key, row, column = FRECHET
    for each in json.loads(path.read_text(encoding="utf-8"))["tables"]:
        if each["key"] == key and column in each["rows"].get(row, {}):
            return Point(flops, each["rows"][row][column]["value"])
    raise UserError(f"{path} says nothing of {column}; evaluate with studies=[replay]")


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that none of at most their FLOPs beats, cheapest first."""
    best: list[Point] = []
    for point in sorted(points):
        if not best or point.value < best[-1].value:
            best.append(point)
    return best


def fit(points: Sequence[Point]) -> Law | None:
    """Fit a power law by least squares of the logarithms; None for fewer than three points."""
    if len(points) < 3:
        return None
    x, y = np.log([point.flops / 1e15 for point in points]), np.log([point.value for point in points])
    slope, offset = np.polyfit(x, y, 1)
    rest = y - slope * x - offset
    return Law(-float(slope), float(np.exp(offset)), float(1 - rest.var() / y.var()), len(points))


def table(runs: Sequence[Run], laws: dict[str, Law | None]) -> str:
    """Lay the figures out, as Markdown."""
    lines = ["| run | transformer | FLOPs | loss | Fréchet distance |", "|---|---|---|---|---|"]
    for run in runs:
        last = run.losses[-1]
        frechet = "–" if run.frechet is None else f"{run.frechet.value:.2f}"
        lines.append(f"| {run.name} | {run.parameters / 1e6:.1f} M | {last.flops:.1e} | {last.value:.4f} | {frechet} |")
    for key, law in laws.items():
        if law is not None:
            lines.append(
                f"{key} = {law.scale:.3g} (FLOPs / 1e15)^-{law.exponent:.3f}, R2 {law.fit:.2f} over {law.points} "
                f"points; ten times the FLOPs leave {10**-law.exponent:.0%} of it"
            )
    return "\n".join(lines)


def draw(runs: Sequence[Run], laws: dict[str, Law | None], path: Path) -> None:
    """Draw loss and Fréchet distance over FLOPs.

    Raises:
        UserError: matplotlib is not installed.
    """
    drawing = blank(9.2, 3.4)
    left, right = drawing.subplots(1, 2)
    reach: dict[str, Any] = {"loss": [p for run in runs for p in run.losses], "frechet": []}
    for run in runs:
        left.plot(*zip(*run.losses, strict=True), "o-", ms=3, lw=1, label=f"{run.name} ({run.parameters / 1e6:.1f} M)")
        if run.frechet is not None:
            reach["frechet"].append(run.frechet)
            right.plot(*run.frechet, "o", label=run.name)
    left.axhline(min(run.guess for run in runs), color="#888888", ls=":", lw=1, label="the guess alone")
    for axes, key, words in ((left, "loss", "validation loss"), (right, "frechet", "Fréchet distance, 10 s")):
        law = laws[key]
        if law is not None:
            ends = np.geomspace(min(reach[key]).flops, max(reach[key]).flops, 50)
            axes.plot(ends, [law.at(each) for each in ends], "k--", lw=0.8, label=f"power law, -{law.exponent:.3f}")
        axes.set(xscale="log", yscale="log", xlabel="FLOPs of training", ylabel=words)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    with replacing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=110)
