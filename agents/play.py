"""``latentcraft play``: a person in a window; without a display, a script that is filmed."""

import gc
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latentcraft.agents.keymap import load_keymap
from latentcraft.agents.starts import make_starts
from latentcraft.errors import UserError
from latentcraft.model.shipped import SHIPPED
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, World
from latentcraft.simulator.worlds import make_world

if TYPE_CHECKING:
    import numpy as np

    from latentcraft.agents.session import Session


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
    recall: bool = True
    """Let the dream recall recorded places where it knows too little, and map the blocks close by."""
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
    keymap: Path | None = None
    """A YAML file of actions and their keys, like ``configs/keymap.yaml``; it needs to name only what it changes."""
    keys: dict[str, str | tuple[str, ...] | None] = field(default_factory=dict)
    """Changes to single actions, for instance ``keys.forward=z keys.jump=[space,j]``; null takes an action's keys.
    (The names with a dot, ``hotbar.1`` and so on, can be given in a ``keymap`` file only.)"""
    player: str | None = None
    """Who plays at first, one of the names that ``players`` takes; null is you. Any button takes over."""
    players: tuple[str, ...] = ("autopilot", "explorer", "tour")
    """Who plays in turn when handed over to: ``autopilot`` (the learned policy that comes with it), ``explorer``, a
    bundled script's name, a script's file, a learned policy's (``latentcraft agent clone`` and ``agent train`` write
    them), or one's own as ``package.module:name`` (an object with ``act(frames) -> actions``, or what makes one)."""
    slot: int | None = None
    """Begin with the game saved in this slot, 1 to 9."""
    rewind_minutes: float = 6.0
    """How far one can go back at least; six take about 100 MB of memory and, in a dream, 0.7 GB of disk in TMPDIR."""
    clip_seconds: float = 15.0
    """Length of a film of the last seconds; no longer than ``rewind_minutes``."""
    clip_format: Literal["mp4", "gif"] = "mp4"
    """What such a film is saved as."""
    clip_words: bool = False
    """Such a film shows all that the window showed, figures and notes too; else the bare pictures."""
    gif_megabytes: float | None = None
    """What a GIF may take at most: it gets fewer pictures, colours and pixels until it fits; null for no limit."""
    screenshots: Path = Path(".")
    """Folder for screenshots and films."""
    saves: Path = Path("saves")
    """Folder of the save slots."""
    recordings: Path = Path("recordings")
    """Folder for recorded episodes, fit for ``latentcraft train data=...``."""
    script: str | None = "tour"
    """Without a display: who plays instead, an action script or another of the names that ``players`` takes; null takes
    the first of those."""
    out: Path | None = Path("play.mp4")
    """Without a display: the video to write; null for none."""
    minutes: float | None = None
    """Without a display: how long to play, in minutes of the game; a script that is done begins anew. After each,
    speed, memory and open files are printed, for soak runs (``SDL_VIDEODRIVER=dummy`` where there is a display). Null
    plays a script once."""


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
    keymap = load_keymap(config.keymap, config.keys)
    (start,) = make_starts(config.world, config.seed, episode=config.episode, media=config.media, frame=config.frame)
    check(config)
    reason = why_no_display()
    if reason is not None:
        return headless(config, start, reason)
    from latentcraft.agents.screen import NoDisplayError

    try:
        return play(config, start, keymap)
    except NoDisplayError as error:
        reason = str(error)
    return headless(config, start, reason)


def check(config: PlayConfig) -> None:
    """Raise a UserError for the first value that cannot be; before anything is opened."""
    if config.scale is not None and config.scale < 1:
        raise UserError(f"scale must be a whole number from 1 up, got {config.scale}")
    if config.slot is not None and not 1 <= config.slot <= 9:
        raise UserError(f"slot must be 1 to 9, got {config.slot}")
    if not 0 < config.clip_seconds <= 60 * config.rewind_minutes:
        raise UserError(f"clip_seconds must be above 0 and within rewind_minutes, got {config.clip_seconds}")
    if config.gif_megabytes is not None and not 0 < config.gif_megabytes:
        raise UserError(f"gif_megabytes must be above 0, or null for no limit, got {config.gif_megabytes}")
    if config.minutes is not None and not 0 < config.minutes:
        raise UserError(f"minutes must be above 0, or null to play a script once, got {config.minutes}")


def play(config: PlayConfig, start: Start, keymap: dict[str, str]) -> int:
    """Open the window, then the world, and play.

    Raises:
        NoDisplayError: no window can be opened.
    """
    from latentcraft.agents.places import Places
    from latentcraft.agents.window import Window

    worlds: list[World] = []

    def open_session() -> "Session":
        from latentcraft.agents.session import Session
        from latentcraft.agents.stage import Stage

        world = open_world(config)
        worlds.append(world)
        session = Session(Stage(world), minutes=config.rewind_minutes)
        # What was imported stays: never to be looked through again, which would hold up play for a tenth of a second.
        gc.freeze()
        gc.enable()
        return session

    window = Window(
        open_session,
        start=start,
        keymap=keymap,
        frame_size=config.frame_size or (96, 160),
        title=f"latentcraft - {config.world}",
        places=Places(
            screenshots=config.screenshots, saves=config.saves, recordings=config.recordings,
            clip_seconds=config.clip_seconds, clip_format=config.clip_format, clip_words=config.clip_words,
            gif_megabytes=config.gif_megabytes, players=config.players, player=config.player,
        ),
        slot=config.slot,
        scale=config.scale,
        mouse_speed=config.mouse_speed,
        fullscreen=config.fullscreen,
        preview=lambda: preview(config, start),
        began=process_began(),
    )  # fmt: skip
    gc.disable()  # imports make a million objects that stay, and looking for others among them takes 0.3 s
    try:
        window.run()
    finally:
        gc.enable()
        for world in worlds:
            world.close()
    return 0


def headless(config: PlayConfig, start: Start, reason: str) -> int:
    """Play without a window."""
    from latentcraft.agents import headless

    return headless.main(config, start, reason)


def open_world(config: PlayConfig) -> World:
    """Build the world to play."""
    return make_world(
        config.world, task=config.task, frame_size=config.frame_size, checkpoint=config.checkpoint, steps=config.steps,
        recall=config.recall,
    )  # fmt: skip


def preview(config: PlayConfig, start: Start) -> "np.ndarray | None":
    """Return the picture a dream begins with; None for another world, which is there as soon, and for a saved game."""
    if config.world != "dream" or config.slot is not None:
        return None
    from latentcraft.agents.preview import first_picture

    checkpoint = config.checkpoint or SHIPPED
    return first_picture(start, checkpoint=checkpoint, task=config.task, frame_size=config.frame_size)


def process_began() -> float | None:
    """Return when this process began, in seconds of ``time.time()``; None where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
