"""Training of the inverse dynamics network on recorded episodes of the reference world; resumable like any stage."""

import math
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft import __version__
from latentcraft.errors import UserError
from latentcraft.model.actions import PITCH
from latentcraft.model.episodes import list_episodes, read_all
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.held_out import split
from latentcraft.model.train.loop import LoopConfig, run_stage
from latentcraft.simulator.fidelity.action_scores import (
    button_counts,
    button_scores,
    camera_errors,
    macro,
    score_figures,
    scores,
    split_actions,
)  # fmt: skip
from latentcraft.simulator.fidelity.figures import Figure
from latentcraft.simulator.fidelity.inverse_dynamics import (
    READ_BUTTONS,
    SHIPPED,
    InverseDynamics,
    InverseDynamicsConfig,
    Reader,
    Reading,
    save_inverse_dynamics,
)  # fmt: skip

CANDIDATES = np.round(np.arange(0.05, 0.96, 0.05), 2)
"""Probabilities tried as a button's threshold."""


@dataclass(frozen=True)
class InverseTrainingConfig:
    """Training of the inverse dynamics network."""

    steps: int = 1600
    """Optimiser steps."""
    batch: int = 16
    """Clips a step."""
    lengths: tuple[int, int] = (16, 32)
    """Frames of a clip, shortest and longest: MineWorld's protocol reads clips of 16, a rollout is far longer."""
    rare_share: float = 0.35
    """Share of clips laid around a tick in which some button, drawn evenly from all nine, is held: sneaking fills one
    tick in two hundred."""
    max_frames: int = 220_000
    """Frames held in memory (11.5 kB each)."""
    held_out: float = 0.06
    """Share of episodes kept back; half of them choose the thresholds, the other half are the report's."""
    camera_weight: float = 0.5
    """Weight of the camera's error (degrees) beside the buttons'."""
    seed: int = 0
    """Of weights, clips and disturbances."""
    model: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.01, other_lr=1e-3, ema=0.995, decay_share=0.4)
    )
    """Step sizes."""


@dataclass(frozen=True)
class Recordings:
    """Shrunk episodes one after the other."""

    frames: Tensor
    """``uint8 (n, h, w, 3)``."""
    actions: np.ndarray
    """``float32 (n, 20)``: what led to each frame."""
    bounds: np.ndarray
    """``int64 (episodes + 1,)``: episode ``e`` is ``bounds[e]`` to ``bounds[e + 1]``."""

    def episodes(self) -> list[slice]:
        """Return where each episode lies."""
        return [slice(int(a), int(b)) for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]


def load_recordings(paths: list[Path], max_frames: int, frame_size: tuple[int, int]) -> Recordings:
    """Read evenly spaced episodes of ``paths``, about ``max_frames`` frames.

    Raises:
        UserError: no readable episode.
    """
    lengths = {path: path.read_bytes().count(b"\n") for path in paths}
    paths = paths[:: max(1, math.ceil(sum(lengths.values()) / max_frames))]
    frames = torch.empty((sum(lengths[path] for path in paths), *frame_size, 3), dtype=torch.uint8)
    actions, bounds = [], [0]
    for _, episode in read_all(paths, frame_size=frame_size):
        end = min(bounds[-1] + len(episode), len(frames))
        frames[bounds[-1] : end] = torch.from_numpy(episode.frames[: end - bounds[-1]])
        actions.append(episode.actions[: end - bounds[-1]])
        bounds.append(end)
    if not bounds[-1]:
        raise UserError("no readable episode to learn reading actions from; record some with `latentcraft record`")
    return Recordings(frames[: bounds[-1]], np.concatenate(actions), np.array(bounds))


class ClipSampler:
    """Draws clips; a batch is a function of its number alone."""

    def __init__(self, data: Recordings, config: InverseTrainingConfig) -> None:
        longest = config.lengths[1]
        self.data, self.config = data, config
        whole = [part for part in data.episodes() if part.stop - part.start >= longest]
        if not whole:
            raise UserError(f"no episode has {longest} frames; record longer ones")
        self.starts = np.concatenate([np.arange(part.start, part.stop - longest + 1) for part in whole])
        held, _ = split_actions(data.actions)
        # The ticks at which each button is held, for those that ever are.
        self.rare = [ticks for k in range(held.shape[1]) if len(ticks := np.flatnonzero(held[:, k]))]

    def sample(self, step: int) -> tuple[Tensor, Tensor]:
        """Return frames ``uint8 (b, t + 1, h, w, 3)`` and the actions between them ``float32 (b, t, 20)``."""
        config = self.config
        rng = np.random.default_rng([config.seed, step])
        length = int(rng.integers(config.lengths[0], config.lengths[1] + 1))
        starts = self.starts[rng.integers(len(self.starts), size=config.batch)]
        for clip in np.flatnonzero(rng.random(config.batch) < config.rare_share) if self.rare else ():
            ticks = self.rare[rng.integers(len(self.rare))]
            wanted = ticks[rng.integers(len(ticks))] - rng.integers(1, length)
            # The nearest place a whole clip fits; near an episode's end that may miss the tick, which does no harm.
            near = min(int(np.searchsorted(self.starts, wanted)), len(self.starts) - 1)
            starts[clip] = self.starts[near]
        rows = starts[:, None] + np.arange(length)
        return self.data.frames[torch.from_numpy(rows)], torch.from_numpy(self.data.actions[rows[:, 1:]])


def disturb(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Make clips ``(b, t, 3, h, w)``, -1 to 1, look as a dream may: blurred, of other light, with noise.

    A network that has only seen crisp frames would call a blurred dream disobedient.
    """
    b, t = pixels.shape[:2]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, 1, 1, generator=rng)

    # A third of the clips stays crisp, some are wholly blurred, and blur comes and goes within a clip.
    blur = (uniform(b, 1) * 2 - 0.7).clamp(0, 1)
    blur = (blur * (1 + 0.15 * uniform(b, t))).clamp(0, 1)
    flat = pixels.flatten(0, 1)
    soft = F.avg_pool2d(F.avg_pool2d(flat, 3, 1, 1, count_include_pad=False), 3, 1, 1, count_include_pad=False)
    mixed = torch.lerp(flat, soft, blur.flatten(0, 1)).unflatten(0, (b, t))
    gain = 0.8 + 0.4 * uniform(b, 1) + 0.04 * (uniform(b, t) - 0.5)
    offset = 0.2 * (uniform(b, 1) - 0.5)
    # Even noise, since normal noise takes a tenth of a training step to draw.
    strength = 0.2 * uniform(b, 1).square()
    noise = torch.rand(mixed.shape, generator=rng).sub_(0.5).mul_(strength)
    return noise.add_(offset).addcmul_(mixed, gain)


class InverseStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "inverse"

    def __init__(self, config: InverseTrainingConfig, data: Recordings, check: Recordings) -> None:
        """Prepare to train on ``data`` and validate on ``check``."""
        torch.manual_seed(config.seed)
        self.config, self.check = config, check
        self.sampler = ClipSampler(data, config)
        network = InverseDynamics(config.model)
        # Masters are taken in fp32, before the picture part is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, not_matrices=("stem", "buttons", "camera", "norms")
        )  # fmt: skip
        self.network = network.fast()
        self.average = InverseDynamics(config.model).fast()

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        frames, actions = self.sampler.sample(step)
        rng = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        pixels = disturb(self.network.shrink(frames), rng)
        total = buttons_total = camera_total = 0.0
        # In parts that stay in the processor's cache; the gradients add up.
        parts = max(1, len(pixels) // 4)
        for part, truth in zip(pixels.chunk(parts), actions.chunk(parts), strict=True):
            logits, camera = self.network(part)
            share = len(part) / len(pixels)
            buttons = F.binary_cross_entropy_with_logits(logits, truth[..., : len(READ_BUTTONS)])
            turning = F.smooth_l1_loss(camera, truth[..., PITCH:], beta=0.25)
            loss = (buttons + self.config.camera_weight * turning) * share
            loss.backward()
            total += loss.item()
            buttons_total += buttons.item() * share
            camera_total += turning.item() * share
        norm = self.optimizer.step(step, steps)
        return {"loss": total, "buttons": buttons_total, "camera": camera_total, "norm": norm}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        self.optimizer.copy_average_to(self.average)
        games, actions = read_recordings(self.average, self.check)
        pairs = [(game, *split_actions(played)) for game, played in zip(games, actions, strict=True)]
        counts = sum(button_counts(game.held, held) for game, held, _ in pairs)
        error = np.concatenate([camera_errors(game.camera, turned)[0] for game, _, turned in pairs])
        return {
            "macro_f1": macro(button_scores(np.asarray(counts)).f1),
            "camera_median": float(np.median(error)),
            "camera_mean": float(error.mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    @torch.no_grad()
    def result(self) -> InverseDynamics:
        """Return the averaged network, ready to read."""
        self.optimizer.copy_average_to(self.average)
        return self.average.requires_grad_(False).eval()


def read_recordings(network: InverseDynamics, data: Recordings) -> tuple[list[Reading], list[np.ndarray]]:
    """Read whole episodes; returns what was read in each and what was played, ``float32 (t, 20)``."""
    games, actions = [], []
    for part in data.episodes():
        features = _features(network, data.frames[part])
        held, camera = network.decide(features)
        games.append(Reading(held[0], camera[0]))
        actions.append(data.actions[part][1:])
    return games, actions


def _features(network: InverseDynamics, frames: Tensor) -> Tensor:
    reader = Reader(network)
    reader.start(frames[None, :1].numpy())
    for part in frames[1:].split(64):
        reader.add(part[None].numpy())
    return reader.features()


@torch.no_grad()
def choose_thresholds(network: InverseDynamics, data: Recordings) -> tuple[float, ...]:
    """Return for every button the probability from which on to call it held, for the best F1 on ``data``."""
    probabilities = np.concatenate(
        [network.read(_features(network, data.frames[part]))[0][0].sigmoid().numpy() for part in data.episodes()]
    )
    held = np.concatenate([split_actions(data.actions[part][1:])[0] for part in data.episodes()])
    f1 = np.stack([scores(button_counts(probabilities >= candidate, held)).f1 for candidate in CANDIDATES])
    f1[:, np.isnan(f1).any(0)] = -np.abs(CANDIDATES - 0.5)[:, None]  # a button nobody pressed keeps an even threshold
    return tuple(float(CANDIDATES[best]) for best in f1.argmax(0))


def train_inverse_dynamics(
    data: Path | str, out: Path | str, *, config: InverseTrainingConfig | None = None, max_seconds: float | None = None
) -> dict[str, Figure]:
    """Train on the episodes in ``data`` and write ``out/inverse_dynamics.safetensors``; the same call goes on.

    Args:
        data: directory of episodes recorded in the reference world.
        out: directory of the training state, the log and the network.
        config: how to train.
        max_seconds: wall-clock limit of this call; at the limit the state is saved.

    Returns:
        How well the network reads held-out episodes: the ceiling of every score it gives, see
        :func:`latentcraft.simulator.fidelity.action_scores.score_figures`.

    Raises:
        UserError: too little data, a full disk; as its subclass ``Interrupted`` if stopped before the last step.
    """
    config, out = config or InverseTrainingConfig(), Path(out)
    episodes = list_episodes(data)
    if len(episodes) < 3:
        raise UserError(f"{data} holds {len(episodes)} episodes and training needs at least 3; record more")
    training, kept = split(episodes, config.held_out)
    if len(kept) < 2:
        kept, training = [*kept, training[0]], training[1:]
    size = config.model.frame_size
    choosing, check = (load_recordings(part, config.max_frames, size) for part in (kept[::2], kept[1::2]))
    recordings = load_recordings(training, config.max_frames, size)
    print(f"{len(recordings.frames)} frames of {len(training)} episodes, {len(kept)} kept back -> {out}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {out}: {error.strerror or error}; choose another out=") from error
    stage = InverseStage(config, recordings, choosing)
    loop = LoopConfig(config.steps, save_seconds=60, sample_every=500, max_seconds=max_seconds)
    progress = run_stage(stage, loop, out)
    network = stage.result()
    network.thresholds = choose_thresholds(network, choosing)
    games, actions = read_recordings(network, check)
    figures = score_figures(games, actions)
    network.provenance = {
        "version": __version__,
        "steps": progress.step,
        "seconds": round(progress.seconds),
        "frames": len(recordings.frames),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "date": time.strftime("%Y-%m-%d"),
        "held_out_episodes": len(games),
        "held_out": {name: round(figure.value, 4) for name, figure in figures.items()},
    }
    path = out / SHIPPED.name
    save_inverse_dynamics(path, network)
    for name, figure in figures.items():
        print(f"{name:28} {figure.value:6.3f}  [{figure.low:.3f}, {figure.high:.3f}]")
    print(f"network: {path} ({path.stat().st_size / 1e6:.1f} MB); copy it to {SHIPPED} to ship it")
    return figures
