"""Worlds that mark the scale: what a perfect model behind the codec, and what several poor ones, would score.

Each wraps another world and changes one thing about it, through the World protocol alone. A foreign world model enters
the evaluation the same way: one class with the protocol's methods (:class:`CopyLastWorld` is the shortest example).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, PITCH, check_vectors
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.simulator.fidelity.replay import skip
from latentcraft.simulator.protocol import Chunk, Start, World, WorldSpec, WorldState

DECODED_AT_ONCE = 32
"""Frames through the autoencoder in one batch; more only takes memory."""
OPPOSITES = (("forward", "back"), ("left", "right"), ("jump", "sneak"), ("attack", "use"))
"""Buttons that :func:`wrong_actions` swaps."""


class WorldAround:
    """Passes everything on to another world; its children change what passes."""

    def __init__(self, inner: World, name: str) -> None:
        self.inner = inner
        self._spec = replace(inner.spec, name=name)

    @property
    def spec(self) -> WorldSpec:
        """Shapes and names."""
        return self._spec

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        """Begin games anew; see the protocol."""
        return self.inner.reset(starts)

    def step(self, actions: np.ndarray) -> Chunk:
        """Advance every game by one chunk; see the protocol."""
        return self.inner.step(actions)

    def save(self, index: int = 0) -> WorldState:
        """Return the exact state of game ``index``."""
        return self.inner.save(index)

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        """Put game ``index`` into ``state``; returns its last frames ``uint8 (f, H, W, 3)``."""
        return self.inner.restore(state, index)

    def close(self) -> None:
        """Close the world inside."""
        self.inner.close()


class CodecWorld(WorldAround):
    """The *codec ceiling*: every frame of the inner world goes through the autoencoder, and nothing else happens.

    A dream that predicted every latent rightly would show these frames, so no dream of this checkpoint scores better.
    """

    def __init__(self, inner: World, autoencoder: Autoencoder) -> None:
        super().__init__(inner, "codec")
        self.autoencoder = autoencoder

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        return self._through(self.inner.reset(starts))

    def step(self, actions: np.ndarray) -> Chunk:
        chunk = self.inner.step(actions)
        return chunk._replace(frames=self._through(chunk.frames))

    def skip(self, actions: np.ndarray) -> None:
        """Advance by one chunk whose frames nobody will see (:func:`latentcraft.simulator.fidelity.replay.play`)."""
        skip(self.inner, actions)

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        return self._through(self.inner.restore(state, index)[None])[0]

    @torch.no_grad()
    def _through(self, frames: np.ndarray) -> np.ndarray:
        """Encode and decode ``uint8 (b, f, H, W, 3)``."""
        flat = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, 1)
        shown = [self.autoencoder.decode(self.autoencoder.encode(part)) for part in flat.split(DECODED_AT_ONCE)]
        return torch.cat(shown).numpy().reshape(frames.shape)


class CopyLastWorld(WorldAround):
    """The *copy-last floor*: starts like the inner world and then shows its last frame for ever."""

    def __init__(self, inner: World) -> None:
        super().__init__(inner, "copy-last")
        spec = inner.spec
        self._last = np.zeros((spec.num_worlds, *spec.frame_size, 3), np.uint8)

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        frames = self.inner.reset(starts)
        for index, start in enumerate(starts):
            if start is not None:
                self._last[index] = frames[index, -1]
        return self._held()

    def step(self, actions: np.ndarray) -> Chunk:
        b, f = self.spec.num_worlds, self.spec.chunk
        check_vectors(actions, (b, f, ACTION_SIZE))
        infos: list[dict[str, Any]] = [{} for _ in range(b)]
        return Chunk(self._held(), np.zeros((b, f), np.float32), np.zeros((b, f), bool), infos)

    def save(self, index: int = 0) -> WorldState:
        return WorldState("copy-last", {}, {"last": self._last[index].copy()})

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        self._last[index] = state.arrays["last"]
        return self._held()[index]

    def _held(self) -> np.ndarray:
        return np.repeat(self._last[:, None], self.spec.chunk, axis=1)


class WrongActionsWorld(WorldAround):
    """The inner world, deaf to the player: it plays :func:`wrong_actions` instead. Sharp pictures of the wrong game."""

    def __init__(self, inner: World) -> None:
        super().__init__(inner, "wrong-actions")

    def step(self, actions: np.ndarray) -> Chunk:
        return self.inner.step(wrong_actions(np.asarray(actions)))


def wrong_actions(actions: np.ndarray) -> np.ndarray:
    """Return what :class:`WrongActionsWorld` plays for ``actions (b, f, 20)``: those of the next game of the batch.

    Where that game does the same (a batch of one, a script played in all games) the mirrored action is taken: camera
    turned the other way, forward for back, left for right, jump for sneak, attack for use. Standing still has no
    opposite and stays.
    """
    mirrored = actions.copy()
    mirrored[..., PITCH:] *= -1
    for one, other in OPPOSITES:
        pair = [BUTTON_INDEX[one], BUTTON_INDEX[other]]
        mirrored[..., pair] = actions[..., pair[::-1]]
    rolled = np.roll(actions, 1, axis=0)
    same = (rolled == actions).all(axis=-1, keepdims=True)
    return np.where(same, mirrored, rolled)


class ForgetfulWorld(WorldAround):
    """The inner world with a short memory: what the player changed is as before ``after`` ticks later.

    The inner world is a :class:`latentcraft.simulator.voxel.world.VoxelWorld`, whose saved states list the changed
    cells. Changes are looked at once a chunk, so one is forgotten up to a chunk late.
    """

    def __init__(self, inner: World, after: int) -> None:
        super().__init__(inner, "forgetful")
        self.after = after
        self._tick = 0
        self._seen: list[dict[int, int]] = [{} for _ in range(inner.spec.num_worlds)]
        """Changed cell -> tick at which the change was first seen, for every game."""

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        for index, start in enumerate(starts):
            if start is not None:
                self._seen[index] = {}
        return self.inner.reset(starts)

    def step(self, actions: np.ndarray) -> Chunk:
        chunk = self.inner.step(actions)
        self._tick += self.spec.chunk
        for index in range(self.spec.num_worlds):
            self._forget(index)
        return chunk

    def save(self, index: int = 0) -> WorldState:
        state = self.inner.save(index)
        ages = [[cell, self._tick - tick] for cell, tick in self._seen[index].items()]
        return replace(state, meta=state.meta | {"ages": ages})

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        self._seen[index] = {cell: self._tick - age for cell, age in state.meta["ages"]}
        return self.inner.restore(state, index)

    def _forget(self, index: int) -> None:
        """Take changes back whose time is over."""
        state = self.inner.save(index)
        cells, seen = state.arrays["edit_cells"], self._seen[index]
        for cell in cells.tolist():
            seen.setdefault(cell, self._tick)
        kept = np.array([self._tick - seen[cell] < self.after for cell in cells.tolist()], bool)
        if not kept.all():
            self._seen[index] = {cell: seen[cell] for cell in cells[kept].tolist()}
            arrays = {"edit_cells": cells[kept], "edit_blocks": state.arrays["edit_blocks"][kept]}
            self.inner.restore(replace(state, arrays=state.arrays | arrays), index)
