"""Play fixed actions in a world and keep what happens: ``latentcraft rollout`` and :func:`rollout` for programs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latentcraft.agents.script import load_script
from latentcraft.agents.starts import make_starts, start_name
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
from latentcraft.simulator.worlds import make_world


@dataclass(frozen=True)
class RolloutConfig:
    """What ``latentcraft rollout`` plays and where the pictures go."""

    script: str = "tour"
    """A bundled script's name or a YAML file (see :mod:`latentcraft.agents.script`)."""
    world: Literal["dream", "voxel", "both"] = "dream"
    """``dream``, ``voxel``, or ``both`` for dream and reference side by side from the same moment."""
    seed: int | tuple[int, ...] | None = HELD_OUT_SEED
    """Reference-world seed, or a list of them (played as one batch); 900000 and up were never trained on. With
    ``episode`` or ``media`` it seeds the dream's noise; null starts a dream from nothing."""
    episode: Path | None = None
    """Dream only: an episode's file (``NAME.jsonl`` or ``NAME.mp4``) to start from."""
    media: Path | None = None
    """Dream only: an image or video file to start from."""
    frame: int = 0
    """First frame of ``episode`` or of a video in ``media`` to start from."""
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

    @property
    def chunk(self) -> int:
        """Ticks in a step."""
        return self.frames.shape[1] // len(self.chunk_seconds)

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


def play_script(
    config: RolloutConfig, name: str, starts: Sequence[Start], *, like: RolloutResult | None = None
) -> RolloutResult:
    """Build the world ``name`` as ``config`` says and play the script from every start.

    Args:
        config: what to play.
        name: ``dream`` or ``voxel``.
        starts: one for each game.
        like: a rollout whose frame size and chunk the world takes.
    """
    frame_size = config.frame_size if like is None else (like.start.shape[1], like.start.shape[2])
    world = make_world(
        name,
        num_worlds=len(starts),
        task=config.task,
        frame_size=frame_size,
        chunk=None if like is None else like.chunk,
        checkpoint=config.checkpoint,
        steps=config.steps,
    )
    try:
        script = load_script(config.script, chunk=world.spec.chunk)
        return rollout(world, script.actions, starts, progress=True)
    finally:
        world.close()


def main(config: RolloutConfig) -> int:
    """Run ``latentcraft rollout``."""
    # What can be wrong without a world should not wait for a checkpoint to load or a rollout to end.
    load_script(config.script)
    starts = make_starts(config.world, config.seed, episode=config.episode, media=config.media, frame=config.frame)
    for path, suffixes in ((config.out, VIDEO_SUFFIXES), (config.strip, PICTURE_SUFFIXES)):
        if path is not None:
            check_suffix(path, suffixes)
    if config.out is None and config.strip is None:
        raise UserError("out and strip are both null: nothing would be written; give out=x.mp4 or strip=x.png")
    if config.world == "both":
        # Both start from the same moment only if frames and warm-up chunks are alike, which the checkpoint decides.
        dream = play_script(config, "dream", starts)
        results = {"dream": dream, "voxel": play_script(config, "voxel", starts, like=dream)}
    else:
        results = {config.world: play_script(config, config.world, starts)}
    write_pictures(config, results, starts)
    print(summary(config, results, starts))
    return 0


def write_pictures(config: RolloutConfig, results: dict[str, RolloutResult], starts: Sequence[Start]) -> None:
    """Write the video (worlds next to each other, starts below each other) and the film strip, as configured."""
    titles = {"voxel": "reference"}
    if config.out is not None:
        width = next(iter(results.values())).start.shape[2]
        if len(results) == len(starts) == 1:
            write_video(config.out, _pictures(next(iter(results.values())), 0), scale=config.scale)
        else:
            scale = config.scale or watchable_scale(width * len(results))
            labels = [titles.get(name, name) for name in results]
            rows = [
                side_by_side(
                    [_pictures(result, i) for result in results.values()],
                    [f"{label}, {start_name(start)}" for label in labels],
                    scale,
                )
                for i, start in enumerate(starts)
            ]
            write_video(config.out, (np.concatenate(frames) for frames in zip(*rows, strict=True)), scale=1)
    if config.strip is not None:
        many = len(starts) > 1
        films = {
            f"{titles.get(name, name)}, {start_name(start)}" if many else titles.get(name, name): result.film(i)
            for i, start in enumerate(starts)
            for name, result in results.items()
        }
        film_strip(films, config.strip)


def _pictures(result: RolloutResult, index: int) -> Iterator[np.ndarray]:
    """Yield what :meth:`RolloutResult.film` holds, without a copy of it."""
    yield result.start[index]
    yield from result.frames[index]


def summary(config: RolloutConfig, results: dict[str, RolloutResult], starts: Sequence[Start]) -> str:
    """Return one line: what was played, how fast, the rewards, where the pictures are."""
    parts = []
    for name, result in results.items():
        ticks, ended = result.rewards.shape[1], result.terminated.any(axis=1).sum()
        text = f"{name}: {ticks} frames in {result.chunk_seconds.sum():.1f}s, reward {result.rewards.sum(1).mean():.4g}"
        parts.append(text + (f", ended {ended} of {len(starts)}" if ended else ""))
    where = ", ".join(str(path) for path in (config.out, config.strip) if path is not None)
    listed = ", ".join(map(start_name, starts))
    return f"rollout of {config.script} from {listed} ({'; '.join(parts)}) -> {where}"


def _progress(chunks: range, label: str, show: bool) -> Any:
    if not show:
        return chunks
    from tqdm import tqdm

    return tqdm(chunks, desc=label, unit="chunk", disable=None, leave=False)
