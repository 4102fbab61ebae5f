"""What an environment shows of its world: pictures, latents, both or nothing, and how little is drawn for it.

A latent is what the checkpoint's autoencoder makes of a frame, each position scaled to unit RMS over its channels. In
the dream latents come first and frames are decoded from them, so that an agent that takes latents spares the decoding;
the reference world draws the frame and encodes it. So a policy of latents moves between both worlds as any other does.
"""

import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import Frames, Latent, World
from latentcraft.simulator.worlds import make_world

Observation = Literal["rgb", "latent", "both", "none"]
"""``rgb`` frames, ``latent`` ones, a Dict of ``both``, or ``none``, an empty array for who looks at rewards only."""
ENCODED_AT_ONCE = 16
"""Frames the autoencoder sees in one call."""
_ORDER: tuple[Frames, ...] = ("none", "last", "all")


class Observer:
    """Makes the observations of a world's games.

    Args:
        world: whose games are observed.
        observation: what of them.
        per_frame: all frames of a step instead of its last.
        encoder: latents of frames, for worlds that have none; see :class:`Encoder`.
    """

    def __init__(
        self, world: World, observation: Observation, *, per_frame: bool = False, encoder: "Encoder | None" = None
    ) -> None:
        self.world, self.observation, self.per_frame = world, observation, per_frame
        self._encoder = encoder
        self.space = self._make_space()
        """Of one game."""

    def __call__(self, frames: np.ndarray) -> Any:
        """Return what is observed of every game now.

        Args:
            frames: last shown of each, ``uint8 (n, k, H, W, 3)``.

        Returns:
            A new array ``(n, ...)`` of :attr:`space`, or a dict of two.
        """
        rgb = self.observation in ("rgb", "both")
        latent = self.observation in ("latent", "both")
        pictures = self._chosen(frames).copy() if rgb else None
        latents = self._latents(frames) if latent else None
        if self.observation == "both":
            return {"rgb": pictures, "latent": latents}
        if self.observation == "none":
            return np.zeros((len(frames), 0), np.float32)
        return pictures if rgb else latents

    def _latents(self, frames: np.ndarray) -> np.ndarray:
        if isinstance(self.world, Latent):
            return np.ascontiguousarray(self._chosen(self.world.latents()))
        assert self._encoder is not None
        return self._encoder(self._chosen(frames))

    def _chosen(self, frames: np.ndarray) -> np.ndarray:
        """Return all of a step or its last, of frames or latents ``(n, k, ...)``."""
        return frames if self.per_frame else frames[:, -1]

    def _make_space(self) -> spaces.Space[Any]:
        spec = self.world.spec
        many = (spec.chunk,) if self.per_frame else ()
        if self.observation == "none":
            return spaces.Box(0, 1, (0,), np.float32)
        rgb = spaces.Box(0, 255, (*many, *spec.frame_size, 3), np.uint8)
        if self.observation == "rgb":
            return rgb
        if isinstance(self.world, Latent):
            shape = self.world.latents().shape[2:]
        else:
            assert self._encoder is not None
            shape = self._encoder.shape(spec.frame_size)
        # Of unit RMS, so that no entry exceeds the root of their number, but for rounding.
        largest = math.sqrt(shape[-1]) * (1 + 1e-6)
        latent = spaces.Box(-largest, largest, (*many, *shape), np.float32)
        return latent if self.observation == "latent" else spaces.Dict({"rgb": rgb, "latent": latent})


class Encoder:
    """The autoencoder of a checkpoint.

    Args:
        checkpoint: its file; None takes the shipped one.
    """

    def __init__(self, checkpoint: Path | str | None = None) -> None:
        # torch is imported here, so that the reference world alone does without it.
        from latentcraft.model.checkpoint import load_checkpoint
        from latentcraft.model.precision import fast_dtype

        self._autoencoder = load_checkpoint(checkpoint, dtype=fast_dtype()).autoencoder

    def shape(self, frame_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (h, w, c) of a frame's latents."""
        from latentcraft.model.autoencoder import DOWNSAMPLING

        height, width = frame_size
        return height // DOWNSAMPLING, width // DOWNSAMPLING, self._autoencoder.config.channels

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Encode ``uint8 (..., H, W, 3)`` to ``float32 (..., h, w, c)``."""
        import torch

        flat = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, -4)
        with torch.no_grad():
            latents = torch.cat([self._autoencoder.encode(part) for part in flat.split(ENCODED_AT_ONCE)])
        return latents.numpy().reshape(*frames.shape[:-3], *latents.shape[1:])


def frames_needed(
    observation: Observation, *, per_frame: bool, info_frames: bool, render_mode: str | None, has_latents: bool
) -> Frames:
    """Return how many frames of a step a world has to show.

    Args:
        observation: what is observed.
        per_frame: see :class:`Observer`.
        info_frames: whether infos hold the frames.
        render_mode: of the environment.
        has_latents: whether the world has latents of its own.

    Raises:
        UserError: an unknown observation.
    """
    if observation not in get_args(Observation):
        raise UserError(f"unknown observation {observation!r}; known: {', '.join(get_args(Observation))}")
    looks = observation in ("rgb", "both") or (observation == "latent" and not has_latents)
    if info_frames or render_mode in ("human", "rgb_array_list") or (looks and per_frame):
        return "all"
    return "last" if looks or render_mode == "rgb_array" else "none"


def open_world(
    world: str | World,
    observation: Observation,
    *,
    per_frame: bool,
    info_frames: bool,
    render_mode: str | None,
    checkpoint: Path | str | None,
    **arguments: Any,
) -> tuple[World, Observer]:
    """Build a world that shows no more frames than its environment looks at, and its observer.

    Args:
        world: a name, or a world, whose frames must then do.
        observation: what is observed.
        per_frame: see :class:`Observer`.
        info_frames: whether infos hold the frames.
        render_mode: of the environment.
        checkpoint: the dream's, and the autoencoder's where a world has no latents of its own.
        arguments: the others of :func:`latentcraft.simulator.worlds.make_world`; moot where ``world`` is one.

    Raises:
        UserError: a bad value.
    """
    has_latents = world == "dream" or isinstance(world, Latent)
    needed = frames_needed(
        observation, per_frame=per_frame, info_frames=info_frames, render_mode=render_mode, has_latents=has_latents
    )
    if isinstance(world, str):
        world = make_world(world, checkpoint=checkpoint, frames=needed, **arguments)
    elif _ORDER.index(world.spec.frames) < _ORDER.index(needed):
        raise UserError(
            f"this world was built with frames={world.spec.frames!r} and the environment looks at {needed!r}; build it "
            "so, or look at less (observation, info_frames, render_mode)"
        )
    encoder = Encoder(checkpoint) if observation in ("latent", "both") and not has_latents else None
    return world, Observer(world, observation, per_frame=per_frame, encoder=encoder)


def check_bound(max_uncertainty: float | None) -> float | None:
    """Return the bound as a float or None; a UserError if it is no number above 0."""
    if max_uncertainty is None:
        return None
    if isinstance(max_uncertainty, bool) or not isinstance(max_uncertainty, (int, float)) or not max_uncertainty > 0:
        raise UserError(f"max_uncertainty must be a number above 0 (1 is all unknown) or None, got {max_uncertainty!r}")
    return float(max_uncertainty)


def pick(batch: Any, index: int) -> Any:
    """Return entry ``index`` of an observation's batch, an array or a dict of arrays."""
    return {name: part[index] for name, part in batch.items()} if isinstance(batch, dict) else batch[index]
