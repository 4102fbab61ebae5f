"""``latentcraft play``: a person in a window; without a display, a video of a script."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentcraft.agents.keymap import merge_keymap
from latentcraft.agents.starts import make_starts
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.worlds import make_world


@dataclass(frozen=True)
class PlayConfig:
    """What ``latentcraft play`` plays and how."""

    world: Literal["dream", "voxel"] = "dream"
    """``dream``, the learned world, or ``voxel``, the reference."""
    seed: int | None = HELD_OUT_SEED
    """Where the game starts; 900000 and up were never trained on. With ``episode`` or ``media`` it seeds the dream's
    noise; null starts a dream from nothing."""
    episode: Path | None = None
    """Dream only: an episode's file (``NAME.jsonl`` or ``NAME.mp4``) to start from."""
    media: Path | None = None
    """Dream only: an image or video file to start from."""
    frame: int = 0
    """First frame of ``episode`` or of a video in ``media`` to start from."""
    steps: int = 4
    """Denoising steps of the dream: 1, 2, 4 or 8; keys change it while playing."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    task: str = "free"
    """One of :data:`latentcraft.model.tasks.TASKS`."""
    frame_size: tuple[int, int] | None = None
    """(height, width) in pixels, multiples of 16; null takes the world's own."""
    scale: int | None = None
    """Whole factor of enlargement of the window at first; null fits the desktop."""
    fullscreen: bool = False
    """Start with the whole screen."""
    mouse_speed: float = 0.15
    """Degrees of turn a pixel of mouse motion."""
    keymap: dict[str, str | None] = field(default_factory=dict)
    """Changes to the keys, for instance ``keymap.z=forward keymap.w=none``; the actions' names are in
    :mod:`latentcraft.agents.keymap`."""
    screenshots: Path = Path(".")
    """Folder for screenshots."""
    script: str = "tour"
    """Without a display: the action script to play instead."""
    out: Path = Path("play.mp4")
    """Without a display: the video to write."""


def why_no_display() -> str | None:
    """Return in a few words why no window can be opened here, or None if one may be."""
    driver = os.environ.get("SDL_VIDEODRIVER", "")
    if driver in ("dummy", "offscreen"):
        return f"SDL_VIDEODRIVER is {driver}"
    # A driver chosen by hand (kmsdrm on a bare console) may need neither.
    if sys.platform.startswith("linux") and not driver:
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return None


def main(config: PlayConfig) -> int:
    """Run ``latentcraft play``."""
    keymap = merge_keymap(config.keymap)
    (start,) = make_starts(config.world, config.seed, episode=config.episode, media=config.media, frame=config.frame)
    if config.scale is not None and config.scale < 1:
        raise UserError(f"scale must be a whole number from 1 up, got {config.scale}")
    reason = why_no_display()
    if reason is not None:
        return film_instead(config, reason)
    world = make_world(
        config.world, task=config.task, frame_size=config.frame_size, checkpoint=config.checkpoint, steps=config.steps
    )
    try:
        from latentcraft.agents.screen import NoDisplayError
        from latentcraft.agents.window import Window

        try:
            window = Window(
                world,
                start=start,
                keymap=keymap,
                scale=config.scale,
                mouse_speed=config.mouse_speed,
                fullscreen=config.fullscreen,
                screenshots=config.screenshots,
            )
        except NoDisplayError as error:
            reason = str(error)
        else:
            window.run()
            return 0
    finally:
        world.close()
    return film_instead(config, reason)


def film_instead(config: PlayConfig, reason: str) -> int:
    """Say why there is no window and write a video of a script."""
    from latentcraft.agents import rollout

    print(f"no display ({reason}): writing a video of the script {config.script!r} to {config.out} instead", flush=True)
    return rollout.main(
        rollout.RolloutConfig(
            script=config.script,
            world=config.world,
            seed=config.seed,
            episode=config.episode,
            media=config.media,
            frame=config.frame,
            out=config.out,
            steps=config.steps,
            checkpoint=config.checkpoint,
            frame_size=config.frame_size,
            task=config.task,
            scale=config.scale,
        )
    )
