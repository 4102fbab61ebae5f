"""Play an action script in one world or both, from many starts at once: ``latentcraft rollout`` and its Python API.

.. code-block:: python

    from latentcraft.agents import rollout

    config = rollout.RolloutConfig("build_tower", {"height": "3"}, world="both", seeds="900001-900002")
    runs = rollout.play(config)
    runs.write(folder="runs")  # a video and an action log for every run, dream beside reference, a contact sheet
    print(runs["dream"].frames.shape, runs["dream"].rewards.sum())  # frames: uint8 (2, 296, 96, 160, 3)

:func:`rollout` plays any actions in any world.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from latentcraft.agents.playback import RolloutResult, pad_to_chunks, rollout, rollout_players
from latentcraft.agents.players import check_player, make_player
from latentcraft.agents.rollout_files import check_places, write_folder, write_overview, write_sheet, write_strip
from latentcraft.agents.script import Script, bundled_scripts, load_script
from latentcraft.agents.seeds import read_seeds
from latentcraft.agents.starts import make_starts, start_name
from latentcraft.agents.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, check_suffix
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED, TICKS_PER_SECOND, Start
from latentcraft.simulator.worlds import make_world

__all__ = ["RolloutConfig", "RolloutResult", "Runs", "pad_to_chunks", "play", "rollout", "rollout_players"]

LIST = "list"
"""The ``script`` that is none: bundled scripts are listed instead."""
DEFAULT_OUT = Path("rollout.mp4")
"""What is written if nothing else is asked for."""


@dataclass(frozen=True)
class RolloutConfig:
    """What ``latentcraft rollout`` plays and what it writes."""

    script: str = "tour"
    """A bundled script's name (``list`` lists them) or a YAML file (see :mod:`latentcraft.agents.script`)."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Values for the script's parameters, as in ``params.distance=3s``."""
    player: str | None = None
    """Plays instead of the script, for ``seconds``: ``explorer``, a learned policy's file (``.safetensors``), or a
    policy as ``package.module:name``. Every game has a player of its own, which its start's seed decides."""
    seconds: float = 20.0
    """``player`` only: how long."""
    script_seed: int | Literal["each"] | None = None
    """Seeds what the script leaves to chance; null takes the script's own, ``each`` gives every run that of its start
    (shorter ones then wait for the longest)."""
    world: Literal["dream", "voxel", "both"] = "dream"
    """``dream``, ``voxel``, or ``both`` for dream and reference from the same moments."""
    seed: int | tuple[int, ...] | None = HELD_OUT_SEED
    """Reference-world seed, or a list of them; 900000 and up were never trained on. With ``episode`` or ``media`` it
    seeds the dream's noise; null starts a dream from nothing."""
    seeds: Sequence[int | str] | int | str | None = None
    """Many seeds in place of ``seed``, played as one batch: a list, a range with both ends such as
    ``900001-900004``, or a list of these."""
    episode: Path | None = None
    """Dream only: an episode's file (``NAME.jsonl`` or ``NAME.mp4``) to start from."""
    media: Path | None = None
    """Dream only: an image or video file to start from."""
    frame: int = 0
    """First frame of ``episode`` or of a video in ``media`` to start from."""
    folder: Path | None = None
    """Directory for everything: a video and an action log (MineRL's key names) for every run, dream and reference side
    by side for every start, a contact sheet."""
    out: Path | None = None
    """Video of all runs, worlds next to each other; null for none, or for ``rollout.mp4`` if nothing else is asked
    for."""
    strip: Path | None = None
    """PNG film strip (frames at 0, 0.2, 1, 2, 5, 10 s); null for none."""
    sheet: Path | None = None
    """PNG contact sheet (moments evenly spread from start to end); null for none."""
    steps: int = 4
    """Denoising steps of the dream: 1, 2, 4 or 8."""
    recall: bool = True
    """Let the dream recall recorded places where it knows too little, and map the blocks close by."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    frame_size: tuple[int, int] | None = None
    """(height, width) in pixels, multiples of 16; null takes the world's own."""
    task: str = "free"
    """One of :data:`latentcraft.model.tasks.TASKS`."""
    scale: int | None = None
    """Whole factor by which videos are enlarged; null picks a watchable one."""

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale < 1:
            raise UserError(f"scale={self.scale} must be 1 or more, or null for a watchable one")
        if not self.seconds > 0:
            raise UserError(f"seconds={self.seconds:g} must be above 0")


@dataclass(frozen=True)
class Runs:
    """What :func:`play` has played."""

    results: Mapping[str, RolloutResult]
    """By world, ``dream`` and ``voxel``; game i of each began at ``starts[i]``."""
    starts: Sequence[Start]
    """One for each game."""
    scripts: Sequence[Script]
    """What was played, one for each game; empty where a player played."""
    task: str = "free"
    """The task played."""

    def __getitem__(self, world: str) -> RolloutResult:
        """Return the rollout of one world."""
        return self.results[world]

    def write(
        self,
        folder: Path | str | None = None,
        *,
        out: Path | str | None = None,
        strip: Path | str | None = None,
        sheet: Path | str | None = None,
        scale: int | None = None,
    ) -> list[Path]:
        """Write what is asked for, see the fields of :class:`RolloutConfig`; returns the files.

        Raises:
            UserError: a file cannot be written; what was there before stays as it was.
        """
        written: list[Path] = []
        if folder is not None:
            written += write_folder(Path(folder), self.results, self.starts, task=self.task, scale=scale)
        if out is not None:
            write_overview(Path(out), self.results, self.starts, scale)
        if strip is not None:
            write_strip(Path(strip), self.results, self.starts)
        if sheet is not None:
            write_sheet(Path(sheet), self.results, self.starts)
        return written + [Path(path) for path in (out, strip, sheet) if path is not None]


def play(config: RolloutConfig, *, progress: bool = False) -> Runs:
    """Play the script from every start in every world ``config`` names; nothing is written.

    Args:
        config: what to play; the keys about files are not looked at.
        progress: show progress bars on a terminal.

    Raises:
        UserError: a mistake in the script or the config, before any world is made.
    """
    starts = _starts(config)
    # A mistake should not wait for a checkpoint to load.
    if config.player is None:
        _scripts(config, starts, chunk=4)
    else:
        check_player(config.player)
    results: dict[str, RolloutResult] = {}
    scripts: list[Script] = []
    for name in ("dream", "voxel") if config.world == "both" else (config.world,):
        # Both start from the same moment only if frames and warm-up chunks are alike, which the checkpoint decides.
        like = results.get("dream")
        world = make_world(
            name,
            num_worlds=len(starts),
            task=config.task,
            frame_size=config.frame_size if like is None else (like.start.shape[1], like.start.shape[2]),
            chunk=None if like is None else like.chunk,
            checkpoint=config.checkpoint,
            steps=config.steps,
            recall=config.recall,
        )
        try:
            if config.player is None:
                scripts = _scripts(config, starts, world.spec.chunk)
                results[name] = rollout(world, _together(scripts), starts, progress=progress)
            else:
                players = [make_player(config.player, world, _seed_of(start)) for start in starts]
                ticks = round(config.seconds * TICKS_PER_SECOND)
                results[name] = rollout_players(world, players, starts, max(ticks, 1), progress=progress)
        finally:
            world.close()
    return Runs(results, starts, scripts, config.task)


def main(config: RolloutConfig) -> int:
    """Run ``latentcraft rollout``."""
    if config.script == LIST:
        print("\n".join(f"{name}: {about_script(name)}" for name in bundled_scripts()))
        return 0
    out = config.out
    if config.folder is config.out is config.strip is config.sheet is None:
        out = DEFAULT_OUT
    # What can be wrong with files should not wait for a rollout to end.
    for path, suffixes in ((out, VIDEO_SUFFIXES), (config.strip, PICTURE_SUFFIXES), (config.sheet, PICTURE_SUFFIXES)):
        if path is not None:
            check_suffix(path, suffixes)
    check_places(config.folder, (out, config.strip, config.sheet), _starts(config))
    runs = play(config, progress=True)
    files = runs.write(config.folder, out=out, strip=config.strip, sheet=config.sheet, scale=config.scale)
    print(summary(config, runs, files))
    return 0


def about_script(name: str) -> str:
    """Return what a bundled script does and which parameters it takes."""
    script = load_script(name)
    params = ", ".join(f"params.{key}={value}" for key, value in script.params.items())
    return script.about + (f" [{params}]" if params else "")


def summary(config: RolloutConfig, runs: Runs, files: Sequence[Path]) -> str:
    """Return one line: what was played, how fast, the rewards, where the files are."""
    parts = []
    for name, result in runs.results.items():
        ticks, ended = result.rewards.shape[1], result.terminated.any(axis=1).sum()
        text = f"{name}: {ticks} frames in {result.chunk_seconds.sum():.1f}s, reward {result.rewards.sum(1).mean():.4g}"
        parts.append(text + (f", ended {ended} of {len(runs.starts)}" if ended else ""))
    in_folder = [path for path in files if path.parent == config.folder]
    where = [f"{config.folder} ({len(in_folder)} files)"] if in_folder else []
    where += [str(path) for path in files if path not in in_folder]
    names = [start_name(start) for start in runs.starts]
    listed = ", ".join(names) if len(names) <= 4 else f"{len(names)} starts, {names[0]} to {names[-1]}"
    return f"rollout of {config.player or config.script} from {listed} ({'; '.join(parts)}) -> {', '.join(where)}"


def _starts(config: RolloutConfig) -> list[Start]:
    seed = config.seed if config.seeds is None else read_seeds(config.seeds)
    return make_starts(config.world, seed, episode=config.episode, media=config.media, frame=config.frame)


def _scripts(config: RolloutConfig, starts: Sequence[Start], chunk: int) -> list[Script]:
    """Read the script once for every start, or once for all if they draw alike."""
    if config.script_seed != "each":
        script = load_script(config.script, chunk=chunk, params=config.params, seed=config.script_seed)
        return [script] * len(starts)
    seeds = [_seed_of(start) for start in starts]
    return [load_script(config.script, chunk=chunk, params=config.params, seed=seed) for seed in seeds]


def _seed_of(start: Start) -> int:
    return start.noise_seed or 0 if start.seed is None else start.seed


def _together(scripts: Sequence[Script]) -> np.ndarray:
    """Return all scripts' actions ``float32 (b, T, 20)``, the shorter ones with no-ops at their end."""
    longest = max(len(script.actions) for script in scripts)
    return np.stack([np.pad(script.actions, ((0, longest - len(script.actions)), (0, 0))) for script in scripts])
