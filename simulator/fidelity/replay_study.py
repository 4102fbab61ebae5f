"""Replay fidelity: the same start and the same actions in a world and in the reference; how far apart, after how long.

At each horizon the frames just before it are compared one by one (PSNR, SSIM, perceptual distance), and what was shown
since the horizon before as a set (Fréchet distance over frames and over short clips).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from latentcraft.simulator.fidelity import metrics
from latentcraft.simulator.fidelity.clips import Footage, Sampling, frechet_by_slice
from latentcraft.simulator.fidelity.features import BATCH, DEFAULT, FeatureNet, load_features
from latentcraft.simulator.fidelity.figures import Column, Figure, Subject, bootstrap
from latentcraft.simulator.fidelity.replay import HORIZONS, name_of, ticks_of
from latentcraft.simulator.fidelity.rollout import Rollout

REPLAY_QUANTITIES = (
    Column("psnr", "PSNR", "dB", "higher", 1),
    Column("ssim", "SSIM", "", "higher", 3),
    Column("perceptual", "Perceptual distance", "", "lower", 2),
    Column("frames_fd", "Fréchet distance, frames", "", "lower", 2),
    Column("clips_fd", "Fréchet distance, clips", "", "lower", 2),
)
"""Each of them is measured at every horizon; see :meth:`ReplayPlan.columns`."""
REPLAY_NOTE = (
    "Same held-out seeds and actions (the scripted explorer's) in both worlds. PSNR, SSIM of luminance and perceptual "
    "distance: mean over frames of the last 0.35 s before the horizon; interval by bootstrap over games. Fréchet "
    "distance: over frames, or clips of 4 frames 2 ticks apart, sampled since the horizon before, in units of the "
    f"total variance of the reference's features; these are taken on their {metrics.DIMENSIONS - 1} principal axes, "
    "with the length of the rest; interval by jackknife over games. The sets are paired: the reference itself would "
    "score 0. Another network than others use sees the frames: no FID, FVD or LPIPS of papers."
)


@dataclass(frozen=True, eq=False)
class ReplayPlan:
    """What is replayed."""

    seeds: tuple[int, ...]
    """One for each game."""
    actions: np.ndarray
    """``float32 (b, T, 20)``."""
    horizons: tuple[float, ...] = HORIZONS
    """Seconds; those beyond the actions are left out."""
    clips: int = 8
    """Clips sampled in each game between two horizons, at most."""
    features: str = DEFAULT
    """See :func:`latentcraft.simulator.fidelity.features.load_features`."""

    @classmethod
    def quick(cls, seeds: tuple[int, ...], actions: np.ndarray, features: str = DEFAULT) -> "ReplayPlan":
        """Return the plan of ``mode=quick``, made for 7 games of 10 s."""
        return cls(seeds, actions, clips=4, features=features)

    @classmethod
    def full(cls, seeds: tuple[int, ...], actions: np.ndarray, features: str = DEFAULT) -> "ReplayPlan":
        """Return the plan of ``mode=full``, made for 12 games of 60 s."""
        return cls(seeds, actions, features=features)

    @property
    def shown(self) -> tuple[float, ...]:
        """Horizons within the actions."""
        return tuple(horizon for horizon in self.horizons if ticks_of(horizon) <= self.actions.shape[1])

    def sampling(self, chunk: int) -> Sampling:
        """Return which frames are looked at."""
        return Sampling(tuple(map(ticks_of, self.shown)), self.clips, chunk)

    def looks(self, chunk: int) -> list[int]:
        """Return the ticks whose frames are wanted, ascending."""
        return sorted({0, *self.sampling(chunk).ticks()})

    def columns(self) -> list[Column]:
        """Return the table's columns: a quantity at all horizons, then the next."""
        return [
            Column(f"{q.key}@{name_of(horizon)}", f"{q.title}, {horizon:g} s", q.unit, q.better, q.digits)
            for q in REPLAY_QUANTITIES
            for horizon in self.shown
        ]


class Replay(NamedTuple):
    """What one replay gives."""

    figures: dict[str, Figure]
    times: tuple[float, ...]
    """Seconds of the pictures kept: the start and every horizon."""
    shown: np.ndarray
    """``uint8 (b, len(times), H, W, 3)``: pictures of the world under test."""
    true: np.ndarray
    """Same shape: pictures of the reference world."""


def replay_study(subject: Subject, plan: ReplayPlan) -> dict[str, Figure]:
    """Return the subject's replay figures, keyed as :meth:`ReplayPlan.columns`."""
    return replay(subject, plan).figures


def replay(subject: Subject, plan: ReplayPlan, rollout: Rollout | None = None) -> Replay:
    """Play the plan in the subject's world and measure it against the reference world.

    Args:
        subject: the world under test.
        plan: what is replayed.
        rollout: the plan's games, where others look at them too; None plays them for this study.
    """
    net = load_features(plan.features)
    rollout = rollout or Rollout(plan.seeds, plan.actions)
    rollout.want(plan.looks)
    played = rollout.of(subject)
    frame_size, chunk = played.spec.frame_size, played.spec.chunk
    ticks, sampling = plan.looks(chunk), plan.sampling(chunk)
    shown, true = Footage.of(net, ticks, played.at(ticks)), _reference(plan, rollout, frame_size, chunk)
    figures: dict[str, Figure] = {}
    for index, horizon in enumerate(plan.shown):
        places = shown.at([tick for tick in sampling.clip(sampling.edges[index]) if tick > 0])
        for key, values in compare_frames(net, shown.frames[:, places], true.frames[:, places]).items():
            figures[f"{key}@{name_of(horizon)}"] = bootstrap(values.mean(1))
    for key, clips in (("frames_fd", False), ("clips_fd", True)):
        for horizon, figure in zip(plan.shown, frechet_by_slice(sampling, shown, true, clips=clips), strict=True):
            figures[f"{key}@{name_of(horizon)}"] = figure
    kept = shown.at([0, *sampling.edges])
    return Replay(figures, (0.0, *plan.shown), shown.frames[:, kept], true.frames[:, kept])


def compare_frames(net: FeatureNet, shown: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Compare frames ``uint8 (b, k, H, W, 3)`` one by one; ``(b, k)`` of each quantity."""
    one, two = (frames.reshape(-1, *frames.shape[2:]) for frames in (shown, true))
    batches = [slice(at, at + BATCH) for at in range(0, len(one), BATCH)]
    values = {
        "psnr": metrics.psnr(one, two),
        "ssim": metrics.ssim(one, two),
        "perceptual": np.concatenate([metrics.perceptual(net(one[part]), net(two[part])) for part in batches]),
    }
    return {key: value.reshape(shown.shape[:2]) for key, value in values.items()}


@lru_cache(maxsize=1)
def _reference(plan: ReplayPlan, rollout: Rollout, frame_size: tuple[int, int], chunk: int) -> Footage:
    """Look at the reference world; the next subjects of the same plan need it again."""
    ticks = plan.looks(chunk)
    return Footage.of(load_features(plan.features), ticks, rollout.true(frame_size, chunk).at(ticks))
