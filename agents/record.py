"""``latentcraft record``: fill a directory with episodes of a world or of any Gymnasium environment that shows pixels.

Each episode is one job with its own seed, run in one of several processes. What makes an episode (terrain, task,
behaviour, noise) is a function of its seed, so recordings can be repeated, extended and resumed: an episode whose name
exists is not recorded again. Stopping midway leaves only whole episodes.
"""

import multiprocessing
import os
import re
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.synchronize import Event
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from latentcraft.agents.explorer import TASK_SHARE, Explorer
from latentcraft.agents.players import EXPLORER, check_player, make_player
from latentcraft.agents.record_stats import RecordStats
from latentcraft.agents.signals import handling
from latentcraft.errors import UserError
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, World
from latentcraft.simulator.voxel.seam import unwrapped
from latentcraft.simulator.worlds import WORLDS, make_world

TASK_MIX = {"free": 0.40, "chop": 0.15, "navigate": 0.10, "navigate-shaped": 0.10, "build": 0.15, "explore": 0.10}
"""Share of episodes of each task when ``task=mix``."""
DEPTH_EVERY = 7
"""Ticks between frames whose distances are recorded too."""
BLOCKS_EVERY = 32
"""Ticks between frames around which the blocks are recorded."""
MIN_TICKS = 40
"""A task that ends sooner is played on until here: shorter clips are of no use to training."""
TICKS_AFTER_END = 8
"""Recorded after an end, so that a clip of whole chunks can hold it wherever its chunks begin."""


@dataclass(frozen=True)
class RecordConfig:
    """Keys of ``latentcraft record``."""

    out: Path
    """Directory to write to; made if missing. Episodes already there are kept and not recorded again."""
    episodes: int = 100
    """Number of episodes; their seeds are ``seed`` to ``seed + episodes - 1``."""
    world: Literal["voxel", "dream"] = "voxel"
    """``voxel`` or ``dream``; not used when ``env`` is given."""
    env: str = ""
    """Id of a Gymnasium environment to record instead of a world, as in ``env=ALE/Breakout-v5``."""
    image_key: str = ""
    """``env`` only: which entry of a Dict observation is the image."""
    render: bool = False
    """``env`` only: record what ``render()`` draws (``rgb_array``) instead of the observation."""
    task: Literal["mix", "free", "chop", "navigate", "navigate-shaped", "build", "explore"] = "mix"
    """A task's name, or ``mix`` for the shares of :data:`TASK_MIX`; not used when ``env`` is given."""
    player: str = EXPLORER
    """Who plays, as in the window: ``explorer``, ``autopilot``, a learned policy's file (``.safetensors``) or
    ``package.module:name``. Worlds that an agent is to learn in should have seen how *it* plays, too: the explorer
    hardly ever misses what it digs, and a net that saw nothing else pays for every blow. Not used with ``env``."""
    hands: float = 0.0
    """Share of episodes, 0 to 1, whose player does little but dig and place: things that a net has to see many times,
    and that ordinary play shows a few times a minute. Not used when ``env`` is given."""
    task_share: float = TASK_SHARE
    """Share, 0 to 1, of what the explorer chooses to do that serves its task, if it has one; the rest is exploring,
    which a world model has to see. With 1 it does nothing else: such games are there to be cloned."""
    outlines: float = 1.0
    """Share of episodes, 0 to 1, in which the targeted block is outlined and cracks while it is dug; the reference
    world's. A dream loses such lines on ground it has invented, and a net that saw no hole without cracks before it
    draws none there."""
    ticks: int = 400
    """Ticks (1/20 s) an episode; an episode whose task ends is shorter."""
    seed: int = 0
    """Seed of the first episode. All seeds stay below 900000: those from there on are held out for evaluation."""
    frame_size: tuple[int, int] | None = (96, 160)
    """(H, W) in pixels, multiples of 16; null takes the world's own (the checkpoint's for the dream)."""
    workers: int | None = None
    """Processes recording at the same time; null takes one for each core, 0 records in this one."""
    checkpoint: Path | None = None
    """``world=dream`` only: the model file; null takes the shipped one."""
    steps: int = 4
    """``world=dream`` only: denoising steps, 1, 2, 4 or 8."""


def main(config: RecordConfig) -> int:
    """Record what ``config`` asks for and print what came of it; returns the exit status."""
    begin = perf_counter()
    stats = record(config, progress=True)
    print(stats)
    if stats.frames:
        print(f"  {stats.frames / (perf_counter() - begin):.0f} frames/s with {_workers(config) or 1} process(es)")
    return 0


def record(config: RecordConfig, *, progress: bool = False) -> RecordStats:
    """Record the episodes that are missing; returns statistics of the new ones.

    SIGTERM and SIGHUP end it as Ctrl-C does: by a :class:`KeyboardInterrupt`, with only whole episodes left.

    Args:
        config: what to record.
        progress: show a progress bar.

    Raises:
        UserError: bad keys, a full disk, a recording process that died. Finished episodes stay.
    """
    from tqdm import tqdm

    check_config(config)
    remove_leftovers(config.out)
    seeds = [seed for seed in range(config.seed, config.seed + config.episodes) if not _path(config, seed).exists()]
    stats = RecordStats()
    with (
        _ending_as_interrupts(),
        tqdm(total=len(seeds), unit="episode", disable=not progress, dynamic_ncols=True) as bar,
        closing(_run_jobs(config, seeds)) as jobs,
    ):
        for done in jobs:
            stats.merge(done)
            bar.update()
            bar.set_postfix(frames=stats.frames, refresh=False)
    return stats


def check_config(config: RecordConfig) -> None:
    """Raise :class:`UserError` for the first bad key, before any process starts or file is touched."""
    if config.episodes < 1 or config.ticks < MIN_TICKS or _workers(config) < 0 or config.seed < 0:
        raise UserError(
            f"episodes must be at least 1, ticks at least {MIN_TICKS}, workers and seed at least 0; got "
            f"episodes={config.episodes} ticks={config.ticks} workers={config.workers} seed={config.seed}"
        )
    if not 0 <= config.hands <= 1:
        raise UserError(f"hands must be from 0 to 1, got {config.hands}")
    if not 0 <= config.task_share <= 1:
        raise UserError(f"task_share must be from 0 to 1, got {config.task_share}")
    if not 0 <= config.outlines <= 1:
        raise UserError(f"outlines must be from 0 to 1, got {config.outlines}")
    if config.outlines < 1 and (config.env or config.world != "voxel"):
        raise UserError("outlines= is the reference world's; leave it out, or record world=voxel")
    if config.seed + config.episodes > HELD_OUT_SEED:
        raise UserError(
            f"seeds {config.seed} to {config.seed + config.episodes - 1} reach into those held out for evaluation; "
            f"keep seed + episodes at most {HELD_OUT_SEED}"
        )
    if not config.env and check_player(config.player):
        raise UserError(f"player={config.player} is a script and says all itself; record it with latentcraft rollout")
    if config.hands and config.player != EXPLORER:
        raise UserError(f"hands= is the explorer's; player={config.player} plays as it does, leave hands out")
    if config.task_share != TASK_SHARE and config.player != EXPLORER:
        raise UserError(f"task_share= is the explorer's; player={config.player} plays as it does, leave task_share out")
    if config.task not in ("mix", *TASKS):
        raise UserError(f"unknown task {config.task!r}; known: mix, {', '.join(TASKS)}")
    if not config.env and config.world not in WORLDS:
        raise UserError(f"unknown world {config.world!r}; known: {', '.join(WORLDS)}, or give env=GYMNASIUM_ID")
    size = config.frame_size
    if size is not None and (len(size) != 2 or any(side < 16 or side % 16 for side in size)):
        raise UserError(f"frame_size must be (H, W), each a multiple of 16, got {list(size)}")
    if size is None and config.env:
        raise UserError("frame_size cannot be null with env=...; give it as [H,W]")


def remove_leftovers(out: Path) -> None:
    """Remove half-written files in ``out`` whose process is gone: killed, or stopped by a power cut."""
    if os.name != "posix" or not out.is_dir():  # elsewhere there is no harmless way to ask whether a process runs
        return
    for path in out.glob(".*.tmp-*"):
        match = re.search(r"\.tmp-(\d+)\.\w+$", path.name)
        if match and not _is_running(int(match[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's process; a number that is none of ours
        return True
    return True


def episode_task(config: RecordConfig, seed: int) -> str:
    """Return the task of the episode with ``seed``."""
    if config.env:
        return "free"
    if config.task != "mix":
        return config.task
    # A generator keyed by the seed rather than seed % n: neighbouring seeds must not share a pattern.
    return str(np.random.default_rng([seed, 0x7A5C]).choice(list(TASK_MIX), p=list(TASK_MIX.values())))


def record_episode(config: RecordConfig, seed: int, stop: Event | None = None) -> RecordStats:
    """Record one episode; returns its statistics.

    Args:
        config: what to record.
        seed: of the episode.
        stop: when set, the episode is dropped and :class:`KeyboardInterrupt` raised.
    """
    task = episode_task(config, seed)
    stats = RecordStats()
    with EpisodeWriter(_path(config, seed), world=config.env or config.world, seed=seed, task=task) as writer:
        steps = _foreign_steps(config, seed, writer) if config.env else _world_steps(config, task, seed, writer)
        last = config.ticks
        with closing(steps):
            for tick, (action, reward, terminated) in enumerate(steps, start=1):
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
                stats.count(action)
                stats.rewards[task] += reward
                if terminated and not stats.ends[task]:
                    stats.ends[task] = 1
                    last = min(last, max(MIN_TICKS, tick + TICKS_AFTER_END))
                if tick >= last:
                    break
        stats.frames = writer.length
        stats.lengths[task] = [writer.length]
    return stats


def _world_steps(
    config: RecordConfig, task: str, seed: int, writer: EpisodeWriter
) -> Generator[tuple[np.ndarray, float, bool], None, None]:
    """Play and write one game; yields each tick's action, its reward and whether the task has ended."""
    from latentcraft.simulator.voxel.world import VoxelWorld

    world = _world(config, task)
    if isinstance(world, VoxelWorld):
        world.outlines = np.random.default_rng([seed, 0x0071]).random() < config.outlines
    hands = bool(np.random.default_rng([seed, 0x4A2D]).random() < config.hands)
    explorer = Explorer(seed, task=task, hands=hands, task_share=config.task_share)
    player = None if config.player == EXPLORER else make_player(config.player, world, seed)
    frames = world.reset([Start(seed=seed)])[0]
    before = frames[-1]
    pose = last_pose = explorer.pose(world)
    # The reference world knows how far everything is, and of what.
    measure, tell = getattr(world, "distances", None), getattr(world, "surroundings", None)
    while True:
        actions = explorer.act(world) if player is None else player.act(world, frames)
        assert actions is not None  # scripts end, and are refused
        chunk = world.step(actions[None])
        frames = chunk.frames[0]
        info = chunk.infos[0]
        caption, poses = info.get("caption", ""), info.get("poses", [None] * len(actions))
        changes, spots = (info.get(name, [None] * len(actions)) for name in ("changes", "spots"))
        if pose is not None:  # a path has no seam where the map has one
            path = unwrapped(np.concatenate([[last_pose], poses]))[1:]
            seam = (path - poses)[:, :3]
            spots = spots + seam[:, None]
            poses, last_pose = path, path[-1]
        if not writer.length:
            writer.first(before, pose=pose, caption=caption)
        for i, action in enumerate(actions):
            reward, terminated = float(chunk.rewards[0, i]), bool(chunk.terminated[0, i])
            distance = blocks = None
            if measure is not None and i == len(actions) - 1 and writer.length % DEPTH_EVERY < len(actions):
                distance = measure()
            if tell is not None and i == len(actions) - 1 and writer.length % BLOCKS_EVERY < len(actions):
                corner, kinds = tell()
                blocks = corner + np.rint(seam[i]).astype(np.int64), kinds
            writer.add(
                action, chunk.frames[0, i], reward=reward, terminated=terminated, pose=poses[i], caption=caption,
                distance=distance, changes=changes[i], spots=spots[i], blocks=blocks,
            )  # fmt: skip
            yield action, reward, terminated


def _foreign_steps(
    config: RecordConfig, seed: int, writer: EpisodeWriter
) -> Generator[tuple[np.ndarray, float, bool], None, None]:
    """Play and write one episode of a Gymnasium environment."""
    from latentcraft.envs.foreign import ForeignEnv

    assert config.frame_size is not None
    env = ForeignEnv(config.env, frame_size=config.frame_size, image_key=config.image_key, render=config.render)
    try:
        writer.first(env.reset(seed), caption=config.env)
        while True:
            action = env.sample()
            frame, reward, terminated, truncated = env.step(action)
            writer.add(action, frame, reward=reward, terminated=terminated)
            yield action, reward, terminated
            if truncated:
                return
    finally:
        env.close()


@lru_cache(maxsize=len(TASKS))
def _cached_world(
    name: str, task: str, frame_size: tuple[int, int] | None, chunk: int | None, checkpoint: Path | None, steps: int
) -> World:
    return make_world(name, task=task, frame_size=frame_size, chunk=chunk, checkpoint=checkpoint, steps=steps)


def _world(config: RecordConfig, task: str) -> World:
    """Return this process's world for ``task``; building one (and compiling it) is dear, resetting is not."""
    size = None if config.frame_size is None else (int(config.frame_size[0]), int(config.frame_size[1]))
    # One tick a chunk where the world allows it: the explorer then sees the effect of every single action.
    chunk = 1 if config.world == "voxel" and config.player == EXPLORER else None
    return _cached_world(config.world, task, size, chunk, config.checkpoint, config.steps)


def _path(config: RecordConfig, seed: int) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", config.env.lower()).strip("-") if config.env else config.world
    if not config.env and config.player != EXPLORER:  # beside the explorer's of the same seed
        who = "-".join(Path(config.player).with_suffix("").parts[-2:])  # a training's folder tells more than its file
        name += "-" + re.sub(r"[^a-z0-9]+", "-", who.lower()).strip("-")
    return Path(config.out) / f"{name}-{episode_task(config, seed)}-{seed:07}.jsonl"


def _workers(config: RecordConfig) -> int:
    return (os.cpu_count() or 1) if config.workers is None else config.workers


_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a program: a plain ``kill``, a closed terminal (not on Windows)."""


@contextmanager
def _ending_as_interrupts() -> Iterator[None]:
    """Raise :class:`KeyboardInterrupt` on the first of the ending signals, so that workers and files are tidied up."""
    asked = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if not asked:  # closing terminals send several; the next must not cut the tidying short
            asked = True
            raise KeyboardInterrupt

    with handling(_ENDINGS, interrupt):
        yield


_job: tuple[RecordConfig, Any] | None = None
"""A worker process's config and stop event, set once when it starts."""


def _start_worker(config: RecordConfig, stop: Event) -> None:
    global _job
    # Ctrl-C reaches every process of the terminal; the parent alone decides, and tells the workers by the event.
    for number in (signal.SIGINT, *_ENDINGS):
        signal.signal(number, signal.SIG_IGN)
    # One core each: set before torch or numba is first imported here.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    _job = config, stop


def _run_job(seed: int) -> RecordStats | None:
    assert _job is not None
    config, stop = _job
    try:
        return None if stop.is_set() else record_episode(config, seed, stop)
    except KeyboardInterrupt:
        return None


def _run_jobs(config: RecordConfig, seeds: list[int]) -> Generator[RecordStats, None, None]:
    """Record every seed, in this process or in ``config.workers`` others; yields as they finish."""
    workers = min(_workers(config), len(seeds))
    if not workers:
        for seed in seeds:
            yield record_episode(config, seed)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(config, stop))
    try:
        # Each of the first jobs starts a process, which inherits what is ignored: a signal that comes before
        # _start_worker has run then neither ends it nor makes it print a traceback of its own.
        with handling([signal.SIGINT, *_ENDINGS], signal.SIG_IGN):
            jobs: list[Future[RecordStats | None]] = [pool.submit(_run_job, seed) for seed in seeds[:workers]]
        jobs += [pool.submit(_run_job, seed) for seed in seeds[workers:]]
        for job in as_completed(jobs):
            stats = job.result()
            if stats is not None:
                yield stats
    except BrokenProcessPool as error:
        raise UserError(
            f"a recording process died (out of memory?); run the same command again to resume {config.out}"
        ) from error
    finally:
        # On Ctrl-C or an error the episodes under way are dropped, which takes a tick; finished ones stay.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
