"""What an evaluation says: figures with count and interval, gathered in tables of worlds by quantities."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from latentcraft.simulator.protocol import World

RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""
_NORMAL = 1.96
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Subject:
    """A world under test."""

    name: str
    """Row of the tables: ``dream``, ``codec ceiling``, ``copy-last floor``, or a foreign world's name."""
    make: Callable[[int, str], World]
    """Builds it for a number of games and a task."""


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval."""

    value: float
    low: float
    """2.5 % quantile of the bootstrap."""
    high: float
    """97.5 % quantile of the bootstrap."""
    count: int
    """Independent samples behind it (games, events, turns), not frames of one game."""

    def __post_init__(self) -> None:
        assert self.count >= 0


@dataclass(frozen=True)
class Column:
    """A quantity: one column of a table."""

    key: str
    """In JSON, for instance ``psnr@1s``."""
    title: str
    unit: str = ""
    better: Literal["higher", "lower", "neither"] = "neither"
    digits: int = 2


@dataclass
class Table:
    """Worlds (rows) by quantities (columns); a cell may be missing where a quantity means nothing for a world."""

    key: str
    """In JSON, for instance ``replay``."""
    title: str
    columns: list[Column]
    rows: dict[str, dict[str, Figure]] = field(default_factory=dict)
    """``rows[subject][column key]``."""
    note: str = ""
    """What a reader must know: how it was measured, what it cannot say."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def bootstrap(
    samples: np.ndarray | Sequence[float], statistic: Callable[[np.ndarray], float] = np.mean, *, seed: int = 0
) -> Figure:
    """Return ``statistic`` over ``samples`` with its 95 % percentile-bootstrap interval.

    Args:
        samples: independent samples along the first axis; NaN rows are left out.
        statistic: maps an array of samples to a number.
        seed: of the resampling, so that the same samples give the same interval.
    """
    samples = np.asarray(samples, np.float64)
    samples = samples[~np.isnan(samples.reshape(len(samples), -1)).any(1)] if len(samples) else samples
    if not len(samples):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    if len(samples) == 1:  # one sample says nothing of the spread
        return Figure(float(statistic(samples)), float("nan"), float("nan"), 1)
    rng = np.random.default_rng(seed)
    draws = [statistic(samples[rng.integers(len(samples), size=len(samples))]) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Figure(float(statistic(samples)), float(low), float(high), len(samples))


def share(samples: np.ndarray | Sequence[float]) -> Figure:
    """Return the mean of ``samples`` between 0 and 1 in percent with Wilson's 95 % interval.

    Unlike the bootstrap's it does not shrink to nothing where all samples agree: 8 right out of 8 may be luck.
    """
    known = np.asarray(samples, np.float64)
    known = known[~np.isnan(known)]
    count = len(known)
    if not count:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    centre = (mean + _NORMAL**2 / (2 * count)) / (1 + _NORMAL**2 / count)
    half = _NORMAL / (1 + _NORMAL**2 / count) * np.sqrt(mean * (1 - mean) / count + _NORMAL**2 / (4 * count**2))
    # Rounding must not leave a share of all or nothing outside its interval.
    low, high = min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))
    return Figure(100 * mean, 100 * float(low), 100 * float(high), count)
