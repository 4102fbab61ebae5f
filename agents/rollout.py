"""Play fixed actions in a world and keep what happens: ``latentcraft rollout`` and :func:`rollout` for programs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latentcraft.agents.script import load_script
from latentcraft.agents.video import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    check_suffix,
    film_strip,
    side_by_side,
    watchable_scale,
    write_video,
)
from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, World
from latentcraft.simulator.worlds import WORLDS, make_world


@dataclass(frozen=True)
class RolloutConfig:
    """What ``latentcraft rollout`` plays and where the pictures go."""

    script: str = "tour"
    """A bundled script's name or a YAML file (see :mod:`latentcraft.agents.script`)."""
    world: Literal["dream", "voxel", "both"] = "dream"
    """``dream``, ``voxel``, or ``both`` for dream and reference side by side from the same moment."""
    seed: int | tuple[int, ...] = HELD_OUT_SEED
    """Reference-world seed, or a list of them (played as one batch); 900000 and up were never trained on."""
    out: Path | None = Path("rollout.mp4")
    """Video to write; null for none."""
    strip: Path | None = None
    """PNG film strip to write (frames at 0, 0.2, 1, 2, 5, 10 s); null for none."""
    steps: int = 4
    """Denoising steps of the dream: 1, 2, 4 or 8."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    frame_size: tuple[int, int] | None = None
    """(height, width) in pixels, multiples of 16; null takes the world's own."""
    task: str = "free"
    """One of :data:`latentcraft.model.tasks.TASKS`."""
    scale: int | None = None
    """Whole factor by which the video is enlarged; null picks a watchable one."""


@dataclass(frozen=True)
class RolloutResult:
    """What happened in ``b`` games over ``T`` ticks."""

    start: np.ndarray
    """``uint8 (b, H, W, 3)``: what was seen before the first action."""
    frames: np.ndarray
    """``uint8 (b, T, H, W, 3)``: frame i shows the effect of action i."""
    actions: np.ndarray
    """``float32 (b, T, 20)``, as played (padded to whole chunks)."""
    rewards: np.ndarray
    """``float32 (b, T)``."""
    terminated: np.ndarray
    """``bool (b, T)``: true from the tick on at which the task ended."""
    infos: list[list[dict[str, Any]]]
    """``infos[chunk][world]``, as the world gave them."""
    chunk_seconds: np.ndarray
    """``float64 (T / f,)``: time each step took."""

    def film(self, index: int = 0) -> np.ndarray:
        """Return game ``index`` with its start in front, ``uint8 (T + 1, H, W, 3)``: entry i is i ticks in."""
        return np.concatenate([self.start[index][None], self.frames[index]])


def rollout(world: World, actions: np.ndarray, starts: Sequence[Start], *, progress: bool = False) -> RolloutResult:
    """Reset every game of ``world`` and play ``actions``.

    Args:
        world: any world of ``b`` games.
        actions: ``float32 (T, 20)``, the same for every game, or ``(b, T, 20)``. Padded with no-ops to whole chunks.
        starts: one for each game.
        progress: show a progress bar on a terminal.

    Raises:
        UserError: shapes that do not fit the world, or bad values.
    """
    games, chunk = world.spec.num_worlds, world.spec.chunk
    if len(starts) != games:
        raise UserError(f"{len(starts)} starts for {games} games; give one for each")
    actions = pad_to_chunks(actions, chunk)
    if actions.ndim == 2:
        actions = np.broadcast_to(actions, (games, *actions.shape))
    if actions.ndim != 3 or actions.shape[0] != games or actions.shape[2] != ACTION_SIZE or not actions.shape[1]:
        raise UserError(f"actions must be (T, {ACTION_SIZE}) or ({games}, T, {ACTION_SIZE}), got {actions.shape}")

    start = world.reset(list(starts))[:, -1].copy()
    ticks = actions.shape[1]
    frames = np.empty((games, ticks, *world.spec.frame_size, 3), np.uint8)
    rewards = np.empty((games, ticks), np.float32)
    terminated = np.empty((games, ticks), bool)
    infos, seconds = [], []
    for first in _progress(range(0, ticks, chunk), world.spec.name, progress):
        part = slice(first, first + chunk)
        began = time.perf_counter()
        frames[:, part], rewards[:, part], terminated[:, part], info = world.step(actions[:, part])
        seconds.append(time.perf_counter() - began)
        infos.append(info)
    return RolloutResult(start, frames, np.ascontiguousarray(actions), rewards, terminated, infos, np.array(seconds))


def pad_to_chunks(actions: np.ndarray, chunk: int) -> np.ndarray:
    """Append no-ops to ``(..., T, 20)`` until T is a multiple of ``chunk``."""
    actions = np.asarray(actions, np.float32)
    if actions.ndim < 2:
        return actions
    missing = -actions.shape[-2] % chunk
    return np.pad(actions, [(0, 0)] * (actions.ndim - 2) + [(0, missing), (0, 0)])  # a no-op is all zeros


def play_script(config: RolloutConfig, name: str, seeds: Sequence[int]) -> RolloutResult:
    """Build the world ``name`` as ``config`` says and play the script from every seed."""
    world = make_world(
        name,
        num_worlds=len(seeds),
        task=config.task,
        frame_size=config.frame_size,
        checkpoint=config.checkpoint,
        steps=config.steps,
    )
    try:
        script = load_script(config.script, chunk=world.spec.chunk)
        return rollout(world, script.actions, [Start(seed=seed) for seed in seeds], progress=True)
    finally:
        world.close()


def check_seeds(seed: int | tuple[int, ...]) -> list[int]:
    """Return a list of seeds or raise a UserError."""
    seeds = [seed] if isinstance(seed, int) else list(seed)
    if not seeds or min(seeds) < 0:
        raise UserError(f"seed must be a whole number from 0 up, or a list of them, got {seed!r}")
    return seeds


def main(config: RolloutConfig) -> int:
    """Run ``latentcraft rollout``."""
    # What can be wrong without a world should not wait for a checkpoint to load or a rollout to end.
    load_script(config.script)
    seeds = check_seeds(config.seed)
    for path, suffixes in ((config.out, VIDEO_SUFFIXES), (config.strip, PICTURE_SUFFIXES)):
        if path is not None:
            check_suffix(path, suffixes)
    if config.out is None and config.strip is None:
        raise UserError("out and strip are both null: nothing would be written; give out=x.mp4 or strip=x.png")
    names = WORLDS if config.world == "both" else (config.world,)
    if config.frame_size is None and len(names) > 1:
        # The reference must show frames of the dream's size, which only the checkpoint knows.
        dream = play_script(config, "dream", seeds)
        same_size = replace(config, frame_size=dream.start.shape[1:3])
        results = {"dream": dream, "voxel": play_script(same_size, "voxel", seeds)}
    else:
        results = {name: play_script(config, name, seeds) for name in names}
    write_pictures(config, results, seeds)
    print(summary(config, results, seeds))
    return 0


def write_pictures(config: RolloutConfig, results: dict[str, RolloutResult], seeds: Sequence[int]) -> None:
    """Write the video (worlds next to each other, seeds below each other) and the film strip, as configured."""
    titles = {"voxel": "reference"}
    if config.out is not None:
        width = next(iter(results.values())).start.shape[2]
        if len(results) == len(seeds) == 1:
            write_video(config.out, next(iter(results.values())).film(), scale=config.scale)
        else:
            scale = config.scale or watchable_scale(width * len(results))
            labels = [titles.get(name, name) for name in results]
            rows = [
                side_by_side([result.film(i) for result in results.values()], [f"{x}, {seed}" for x in labels], scale)
                for i, seed in enumerate(seeds)
            ]
            write_video(config.out, (np.concatenate(frames) for frames in zip(*rows, strict=True)), scale=1)
    if config.strip is not None:
        many = len(seeds) > 1
        films = {
            f"{titles.get(name, name)} {seed}" if many else titles.get(name, name): result.film(i)
            for i, seed in enumerate(seeds)
            for name, result in results.items()
        }
        film_strip(films, config.strip)


def summary(config: RolloutConfig, results: dict[str, RolloutResult], seeds: Sequence[int]) -> str:
    """Return one line: what was played, how fast, the rewards, where the pictures are."""
    parts = []
    for name, result in results.items():
        ticks, ended = result.rewards.shape[1], result.terminated.any(axis=1).sum()
        text = f"{name}: {ticks} frames in {result.chunk_seconds.sum():.1f}s, reward {result.rewards.sum(1).mean():.4g}"
        parts.append(text + (f", ended {ended} of {len(seeds)}" if ended else ""))
    where = ", ".join(str(path) for path in (config.out, config.strip) if path is not None)
    listed = ",".join(map(str, seeds))
    return f"rollout of {config.script} from seed {listed} ({'; '.join(parts)}) -> {where}"


def _progress(chunks: range, label: str, show: bool) -> Any:
    if not show:
        return chunks
    from tqdm import tqdm

    return tqdm(chunks, desc=label, unit="chunk", disable=None, leave=False)
