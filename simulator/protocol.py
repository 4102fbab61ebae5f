"""The World protocol: what everything above (environments, window, agents, scripts, evaluation) may rely on.

A world is a *batch* of ``b`` independent games stepped together, one chunk of ``f`` frames (ticks) at a time. Frames
are ``uint8 (b, f, H, W, 3)`` RGB, actions ``float32 (b, f, 20)`` (see :mod:`latentcraft.model.actions`): entry ``i``
is held during tick ``i`` and its effect shows in frame ``i`` of the returned chunk.

Who does not look at every frame says so (:attr:`WorldSpec.frames`): the reference world then draws, and the dream
decodes, fewer of them. The game is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, check_vectors

TICKS_PER_SECOND = 20
HELD_OUT_SEED = 900_000
"""Seeds from here on are for evaluation; the recorder never uses them."""
WARMUP_CHUNKS = 4
"""Chunks of scripted warm-up after ``reset(seed)``: both worlds start from the same moment, and the dream takes these
frames and actions as its context."""

Frames = Literal["all", "last", "none"]
"""Which frames of a chunk are shown."""


@dataclass(frozen=True)
class WorldSpec:
    """Shapes and names of a world."""

    name: str
    """``voxel``, ``dream`` or a foreign world's name."""
    num_worlds: int = 1
    """Batch ``b``."""
    frame_size: tuple[int, int] = (96, 160)
    """(H, W) in pixels, each a multiple of 16."""
    chunk: int = 4
    """Frames (ticks) in a chunk, ``f``."""
    task: str = "free"
    """One of :data:`latentcraft.model.tasks.TASKS`."""
    frames: Frames = "all"
    """Which frames of a chunk are shown; wherever this page says ``f`` frames, there are :attr:`shown` of them."""

    @property
    def shown(self) -> int:
        """Frames of a chunk that are shown: ``f``, 1 or 0."""
        return {"all": self.chunk, "last": 1, "none": 0}[self.frames]


@dataclass(frozen=True)
class Start:
    """Where one game begins. At most one of ``seed``, ``episode``, ``media`` is given; none means "from nothing"."""

    seed: int | None = None
    """Reference-world seed: terrain, spawn, task, weather, time of day and the warm-up are functions of it."""
    noise_seed: int | None = None
    """Seeds the dream's noise; None takes ``seed``, or 0."""
    episode: Path | None = None
    """An episode's ``NAME.jsonl`` or ``NAME.mp4``: start from its frames and actions (dream only)."""
    frame: int = 0
    """First frame of ``episode`` or video ``media`` to use as context."""
    media: Path | None = None
    """One image or video file (dream only); resized to the frame size."""
    lead: np.ndarray | None = field(default=None, compare=False)
    """Actions ``float32 (k * f, 20)`` that the reference world plays after the warm-up of ``seed``, before the game
    begins: the dream's context goes on through them. Whole chunks; None for none."""


class Chunk(NamedTuple):
    """What one step returns."""

    frames: np.ndarray
    """``uint8 (b, f, H, W, 3)``; fewer where :attr:`WorldSpec.frames` says so."""
    rewards: np.ndarray
    """``float32 (b, f)``."""
    terminated: np.ndarray
    """``bool (b, f)``: true from the tick on at which the task ended. The world itself plays on until reset."""
    infos: list[dict[str, Any]]
    """One dict per world. The reference world gives ``pose`` (x, y, z, yaw, pitch), ``caption`` and task state,
    and of every tick ``poses`` ``float32 (f, 5)``; both worlds give ``changes`` ``bool (f, 2)``: what was dug, what was
    placed, and ``spots`` ``float32 (f, 2, 3)``: the lower corners of those blocks (0 where there is none, infinite
    where nobody knows), where a world knows what its hand does."""


@dataclass(frozen=True)
class WorldState:
    """Exact state of one game: restoring it replays the same frames to the bit. Arrays may be shared, never written."""

    world: str
    """Name of the world that saved it; only a world of that name restores it."""
    meta: dict[str, Any] = field(default_factory=dict)
    """JSON values."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class World(Protocol):
    """A batch of games. All methods raise :class:`latentcraft.errors.UserError` on bad input."""

    @property
    def spec(self) -> WorldSpec: ...

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        """Begin anew where ``starts[i]`` is given, leave world ``i`` alone where it is None.

        Returns the last chunk before the first step, ``uint8 (b, f, H, W, 3)`` (the end of the warm-up or context).
        """
        ...

    def step(self, actions: np.ndarray) -> Chunk:
        """Advance every game by one chunk of ``actions`` ``float32 (b, f, 20)``."""
        ...

    def save(self, index: int = 0) -> WorldState:
        """Return the exact state of game ``index``."""
        ...

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        """Put game ``index`` into ``state``; returns its last frames ``uint8 (f, H, W, 3)``."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Branching(Protocol):
    """A world of which there can be another that shares what is heavy, such as the nets."""

    def like(self, num_worlds: int = 1, *, frames: Frames | None = None) -> World:
        """Return a world of the same kind, size and task, with ``num_worlds`` games that have not begun.

        Args:
            num_worlds: its batch.
            frames: which frames it shows; None takes this world's choice.
        """
        ...


@runtime_checkable
class Latent(Protocol):
    """A world whose frames come from latents."""

    def latents(self) -> np.ndarray:
        """Return the latents of every game's last chunk, ``float32 (b, f, h, w, c)``, whichever frames are shown."""
        ...


def check_frames(frames: str) -> None:
    """Raise a UserError unless ``frames`` is one of :data:`Frames`."""
    if frames not in get_args(Frames):
        raise UserError(f"unknown frames {frames!r}; known: {', '.join(get_args(Frames))}")


def warm_up_of(start: Start, script: np.ndarray, chunk: int) -> np.ndarray:
    """Return the warm-up ``script (t, 20)`` of a seed with the start's lead behind it.

    Raises:
        UserError: the lead is not whole chunks of actions, or there is no seed.
    """
    if start.lead is None:
        return script
    if start.seed is None:
        raise UserError("a lead is played in the reference world; give Start a seed with it")
    lead = np.asarray(start.lead)
    if lead.ndim != 2 or len(lead) % chunk:
        raise UserError(f"a lead must be actions (k * {chunk}, {ACTION_SIZE}), whole chunks; got shape {lead.shape}")
    return np.concatenate([script, check_vectors(lead, (len(lead), ACTION_SIZE))])


def last_frames(frames: np.ndarray, count: int) -> np.ndarray:
    """Return the last ``count`` of ``frames (k, H, W, 3)``; where there are fewer, the last stands still.

    A state does not know which frames the world that restores it shows.
    """
    if len(frames) < count:
        frames = np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), 0)])
    return frames[len(frames) - count :]
