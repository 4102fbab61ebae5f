"""The learned world behind the World protocol: one batched forward pass a denoising step, one cache for all games."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, check_vectors
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.beside import beside, lanes, two_lanes
from latentcraft.model.checkpoint import WorldModel, digest, load_checkpoint
from latentcraft.model.guess import Guess
from latentcraft.model.objective import CONTEXT_SIGNAL
from latentcraft.model.precision import fast_dtype
from latentcraft.model.sampler import STEPS, commit, denoise
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.simulator.dream.context import Context, read_context
from latentcraft.simulator.dream.goal import decide_goal
from latentcraft.simulator.dream.infos import infos_of, spots_of
from latentcraft.simulator.dream.noise import chunk_noise
from latentcraft.simulator.dream.pay import count_out, settled, walked
from latentcraft.simulator.protocol import Chunk, Frames, Start, WorldSpec, WorldState, check_frames, last_frames


class _Dreamed(NamedTuple):
    """A chunk of some games."""

    latents: Tensor
    reward: Tensor
    terminated: Tensor
    spread: Tensor
    changes: Tensor
    picture: Tensor
    spots: list[np.ndarray]
    frames: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["_Dreamed"]) -> "_Dreamed":
        """Return that of all their games."""
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls._fields[:-2]}
        spots = [spot for part in parts for spot in part.spots]
        return cls(spots=spots, frames=np.concatenate([part.frames for part in parts]), **tensors)


class DreamWorld:
    """A batch of dreamed games; see :class:`latentcraft.simulator.protocol.World`.

    Each step's info has ``uncertainty``, 0.02 to 1: the share of the last frame's variance that does not go back to
    what was shown at the start, by the judge's own estimate. What comes into view is 1 and stays so in memory; what was
    real and is remembered wears off little by little. A world without a memory of places tells of the last chunk only:
    the share that motion could not tell. Where there is a task, ``end_probability`` is the head's, 0 to 1, that it ends
    in this chunk. Where the world has learned what a hand does, ``changes`` ``bool (f, 2)`` says what was dug and what
    was placed in each tick, and ``spots`` ``float32 (f, 2, 3)`` where, in metres from wherever the dream counts
    and infinite where it does not know. Where it knows what the goal of the task looks like, ``goal`` ``int64 (3,)`` is
    the cell in which that stands, decided at the start of the game, and ``distance`` how far away it is on the ground,
    metres. Where it carries a bank of recorded places, ``recalled`` is the number of the
    one of which this chunk brought a picture into view, -1 for none (:mod:`latentcraft.model.recall`).

    Rewards are what the heads expect: of each tick, times how probable it is that the task still goes on. It ends where
    that falls below one half, and pays nothing from then on.

    Everything shown is a function of the start, the actions, the number of steps and the checkpoint: a game's noise
    comes from its seed and the chunk's number. It holds to the bit on one machine with one number of threads, one
    number format, one ``num_worlds`` and one place among them (matrix products of other sizes round differently, and so
    may their last rows).

    **What is not decoded.** Where only latents are asked for (``frames="none"``), or the last frame (``"last"``), the
    other frames of a chunk are never decoded, and the game goes on by the same bits. The last one is decoded in any
    case: the next chunk's guess moves that picture, the depth net looks at it, and the memory of places keeps it. So
    one frame in four is decoded, not none; the guess itself, four more pictures, is encoded as ever.
    """

    def __init__(
        self,
        *,
        num_worlds: int = 1,
        task: str = "free",
        frame_size: tuple[int, int] | None = None,
        chunk: int | None = None,
        checkpoint: Path | str | WorldModel | None = None,
        steps: int = 4,
        frames: Frames = "all",
        dtype: torch.dtype | None = None,
        recall: bool = True,
    ):
        """Load the checkpoint and allocate the cache.

        Args:
            num_worlds: batch ``b``.
            task: what rewards and ends are read for.
            frame_size: (H, W); None takes the checkpoint's. Others work (the nets know no fixed size) but were not
                trained on.
            chunk: must be the checkpoint's, or None.
            checkpoint: file, loaded model, or None for the shipped one.
            steps: denoising steps a chunk, may be changed between steps by assigning ``world.steps``.
            frames: which frames of a chunk are shown: ``all``, the ``last`` or ``none``; see above.
            dtype: number format the checkpoint is loaded in; None takes what this machine multiplies fastest. A loaded
                model keeps its own.
            recall: whether recorded places are recalled where too little is known, and near ground is shown from a map
                of blocks, if the checkpoint has a bank and completes maps. Without, all that was never seen is invented
                by the transformer alone; a step costs less.

        Raises:
            UserError: a bad checkpoint, task, frame size, chunk, number of steps or choice of frames; a task that the
                checkpoint's heads do not know.
        """
        check_frames(frames)
        if task not in TASK_INDEX:
            raise UserError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        if num_worlds < 1:
            raise UserError(f"num_worlds must be at least 1, got {num_worlds}")
        if isinstance(checkpoint, WorldModel):
            self.model = checkpoint
        else:
            self.model = load_checkpoint(checkpoint, dtype=dtype or fast_dtype())
        self.model.check_task(task)
        if not recall:
            scene = None if self.model.scene is None else self.model.scene.without_map()
            self.model = replace(self.model, bank=None, scene=scene)
        self._digest = digest(self.model.dit) + digest(self.model.motion)
        if self.model.scene is not None:
            self._digest += digest(self.model.scene)
        if self.model.bank is not None:
            self._digest += digest(self.model.bank)
        config = self.model.dit.config
        size = tuple(frame_size) if frame_size is not None else self.model.frame_size
        multiple = DOWNSAMPLING * config.patch
        if len(size) != 2 or any(side <= 0 or side % multiple for side in size):
            raise UserError(f"frame_size {list(size)} must be two positive multiples of {multiple}")
        if chunk not in (None, config.chunk):
            raise UserError(f"this checkpoint dreams chunks of {config.chunk} frames, not {chunk}; leave chunk out")
        self._spec = WorldSpec("dream", num_worlds, (size[0], size[1]), config.chunk, task, frames)
        self._grid = (size[0] // DOWNSAMPLING, size[1] // DOWNSAMPLING)
        self.steps = steps
        self._context_signal = CONTEXT_SIGNAL
        self._cache = self.model.dit.empty_cache(num_worlds, self._grid)
        self._task = torch.full((num_worlds,), TASK_INDEX[task], dtype=torch.int64)
        self._seeds = [0] * num_worlds
        self._ticks = [0] * num_worlds  # chunks since the start, context included: numbers the noise
        self._started = [False] * num_worlds
        self._alive = np.ones(num_worlds)  # how probable it is that the task goes on; 0 after its end
        self._last = torch.zeros(num_worlds, config.chunk, *self._grid, config.channels)
        self._captions = [""] * num_worlds
        # Last shown; memory needs the last one also where nobody looks.
        self._frames = np.zeros((num_worlds, max(1, self._spec.shown), *self._spec.frame_size, 3), np.uint8)
        self._picture: Tensor | None = None  # the last of them as decoded, None where a game began since
        self._places = [self.model.guesser.place(self._spec.frame_size) for _ in range(num_worlds)]

    @property
    def spec(self) -> WorldSpec:
        """Shapes and names."""
        return self._spec

    @property
    def steps(self) -> int:
        """Denoising steps a chunk."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if steps not in STEPS:
            raise UserError(f"steps must be one of {', '.join(map(str, STEPS))}, got {steps}")
        self._steps = steps

    @torch.no_grad()
    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        """Begin games anew from a seed, an episode, an image or video, or nothing; see the protocol."""
        if len(starts) != self._spec.num_worlds:
            raise UserError(f"reset takes {self._spec.num_worlds} starts (None leaves a game alone), got {len(starts)}")
        # All contexts are read first, so that a bad one leaves every game as it was.
        contexts = [None if start is None else read_context(start, self._spec) for start in starts]
        for index, start in enumerate(starts):
            if start is None and not self._started[index]:
                raise UserError(f"game {index} was never reset; give it a start")
        for index, (start, context) in enumerate(zip(starts, contexts, strict=True)):
            if start is not None and context is not None:
                self._begin(index, start, context)
        return self._shown.copy()

    @property
    def _shown(self) -> np.ndarray:
        """Last frames as the spec says, ``uint8 (b, f, H, W, 3)``."""
        return self._frames[:, : self._spec.shown]

    def latents(self) -> np.ndarray:
        """Return the latents of every game's last chunk, ``float32 (b, f, h, w, c)``, of unit RMS over ``c``."""
        return self._last.numpy().copy()

    def like(self, num_worlds: int = 1, *, frames: Frames | None = None) -> "DreamWorld":
        """Return another dream of the same nets; see :class:`latentcraft.simulator.protocol.Branching`."""
        return DreamWorld(
            num_worlds=num_worlds, task=self._spec.task, frame_size=self._spec.frame_size, checkpoint=self.model,
            steps=self.steps, frames=self._spec.frames if frames is None else frames,
        )  # fmt: skip

    def _begin(self, index: int, start: Start, context: Context) -> None:
        """Feed one game its context chunk by chunk, exactly as its own chunks would be."""
        dit, f, kept = self.model.dit, self._spec.chunk, self._frames.shape[1]
        self._cache.clear(index)
        self._picture = None
        self._seeds[index] = int(start.noise_seed if start.noise_seed is not None else start.seed or 0)
        self._ticks[index] = 0
        self._captions[index] = context.caption
        place = self._places[index]
        if place is not None:
            place.forget()
        self._alive[index] = 1.0
        self._started[index] = True
        if not len(context.frames):  # from nothing: the first chunk is dreamed without a past or actions
            noise = chunk_noise(self._seeds[index], 0, self._last[:1].shape)
            alone = dit.empty_cache(1, self._grid)
            unknown = torch.zeros(1, dtype=torch.bool)
            actions = torch.zeros(1, f, ACTION_SIZE)
            task = self._task[index : index + 1]
            nothing = Guess.of_nothing(self._last[:1])
            latents = denoise(dit, alone, nothing, noise, actions, steps=self.steps, task=task, has_actions=unknown)
            self._commit_one(index, latents, actions, known=False)
            self._frames[index] = self._decode(latents[:, -kept:])[0]
            if place is not None:
                place.sure[:] = 0.0
            return
        frames, seen = torch.from_numpy(context.frames), list[tuple[np.ndarray, np.ndarray]]()
        latents = torch.cat([self.model.autoencoder.encode(part) for part in frames.split(16)])
        for at in range(0, len(frames), f):
            actions = torch.from_numpy(context.actions[None, at : at + f])
            eyes = None if context.eyes is None else torch.from_numpy(context.eyes[None, at : at + f])
            self._commit_one(index, latents[None, at : at + f], actions, known=context.known_actions, eyes=eyes)
            self._frames[index] = context.frames[at + f - kept : at + f]
            if place is not None and (eye := place.eye) is not None:
                seen.append((context.frames[at + f - 1], eye))
        decide_goal(self.model.scene, place, int(self._task[index]), seen, self._seeds[index])

    def _commit_one(
        self, index: int, latents: Tensor, actions: Tensor, *, known: bool, eyes: Tensor | None = None
    ) -> None:
        """Append one chunk ``(1, f, h, w, c)``, seen from ``eyes (1, f, 5)`` if known, to game ``index`` only."""
        alone = self._cache.view(index)
        noise = chunk_noise(self._seeds[index], self._ticks[index], latents.shape, context=True)
        task, has_actions = self._task[index : index + 1], torch.tensor([known])
        guess = self.model.guesser(
            alone.last,
            actions,
            has_actions,
            places=self._places[index : index + 1],
            eyes=eyes,
            shown=self._frames[index : index + 1, -1],
        )
        commit(
            self.model.dit, alone, guess, latents, noise, actions, task=task, has_actions=has_actions,
            signal=self._context_signal,
        )  # fmt: skip
        self.model.guesser.look_ahead(self._places[index : index + 1], given=True)
        self._last[index] = latents[0]
        self._ticks[index] += 1

    @torch.no_grad()
    def step(self, actions: np.ndarray) -> Chunk:
        """Dream the next chunk of every game; see the protocol."""
        spec = self._spec
        checked = check_vectors(actions, (spec.num_worlds, spec.chunk, ACTION_SIZE))
        if not all(self._started):
            raise UserError(f"game {self._started.index(False)} was never reset; call reset before step")
        held = torch.from_numpy(checked)
        with lanes():
            if spec.num_worlds > 1 and two_lanes():
                some, rest = slice(0, spec.num_worlds // 2), slice(spec.num_worlds // 2, spec.num_worlds)
                parts = beside(lambda: self._dream(some, held), lambda: self._dream(rest, held))
                dreamed = _Dreamed.joined(parts)
            else:
                dreamed = self._dream(slice(0, spec.num_worlds), held)
        self._frames, self._picture, self._last = dreamed.frames, dreamed.picture, dreamed.latents
        self._ticks = [tick + 1 for tick in self._ticks]
        if spec.task == "free":
            rewards = np.zeros((spec.num_worlds, spec.chunk), np.float32)
            terminated = np.zeros((spec.num_worlds, spec.chunk), bool)
        else:
            rewards, terminated, self._alive = count_out(dreamed.reward, dreamed.terminated, self._alive)
        infos = infos_of(
            self._captions, self._places, spread=dreamed.spread, terminated=dreamed.terminated,
            changes=dreamed.changes if self.model.scene is not None and self.model.scene.hand is not None else None,
            spots=dreamed.spots, task=spec.task, recalls=self.model.bank is not None,
        )  # fmt: skip
        return Chunk(self._shown.copy(), rewards, terminated, infos)

    def _dream(self, rows: slice, held: Tensor) -> "_Dreamed":
        """Dream the next chunk of some games under actions ``held (b, f, a)``, of which it takes theirs."""
        dit, guesser, places = self.model.dit, self.model.guesser, self._places[rows]
        held, cache, task, shape = held[rows], self._cache.part(rows), self._task[rows], self._last[:1].shape
        pairs = list(zip(self._seeds[rows], self._ticks[rows], strict=True))
        noise = torch.cat([chunk_noise(seed, tick, shape) for seed, tick in pairs])
        context_noise = torch.cat([chunk_noise(seed, tick, shape, context=True) for seed, tick in pairs])
        picture = None if self._picture is None else self._picture[rows]
        stood = [None if place is None else place.eye for place in places]
        guess = guesser(cache.last, held, places=places, shown=self._frames[rows, -1], picture=picture)
        paths = walked(stood, places)
        spots = [spots_of(*each) for each in zip(places, guess.holds.numpy(), guess.changes.numpy(), strict=True)]
        _, latents = beside(
            lambda: guesser.look_ahead(places),
            lambda: denoise(dit, cache, guess, noise, held, steps=self.steps, task=task),
        )
        shown = latents[:, -self._frames.shape[1] :]
        some = shown.shape[1] // 4  # to decode one takes half as long as to commit them
        (outcomes, early), late = beside(
            lambda: (
                commit(dit, cache, guess, latents, context_noise, held, task=task, signal=self._context_signal),
                guesser.draw(shown[:, :some]) if some else None,
            ),
            lambda: guesser.draw(shown[:, some:]),
        )
        outcomes = settled(self.model.scene, outcomes, self._last[rows], latents, guess.changes, paths, places, task)
        decoded = late.frames if early is None else np.concatenate([early.frames, late.frames], 1)
        frames = guesser.show(decoded, latents, guess, places)
        return _Dreamed(
            latents, outcomes.reward, outcomes.terminated, guess.spread, guess.changes, late.picture, spots, frames
        )  # fmt: skip

    def save(self, index: int = 0) -> WorldState:
        """Return game ``index`` to the bit: cache, last chunk and counters."""
        self._check_index(index)
        if not self._started[index]:
            raise UserError(f"game {index} was never reset; there is nothing to save")
        cache = self._cache.save(index)
        arrays = {name: _to_numpy(tensor) for name, tensor in cache.items()}
        arrays["latents"], arrays["shown"] = self._last[index].numpy().copy(), self._frames[index].copy()
        place = self._places[index]
        if place is not None:
            arrays |= {f"place.{name}": part for name, part in place.save().items()}
        meta = {
            "seed": self._seeds[index], "chunks": self._ticks[index], "alive": float(self._alive[index]),
            "caption": self._captions[index], "steps": self.steps, **self._identity(),
        }  # fmt: skip
        return WorldState("dream", meta, arrays)

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        """Put game ``index`` into ``state``; see the protocol.

        Raises:
            UserError: the state is another world's, or was saved with another checkpoint, size, task or number format.
        """
        self._check_index(index)
        if state.world != "dream":
            raise UserError(f"this state was saved by the world {state.world!r}; only that world restores it")
        for key, mine in self._identity().items():
            if state.meta.get(key) != mine:
                raise UserError(f"this state has {key} {state.meta.get(key)}, this world {mine}; build the world alike")
        dtype = self._cache.keys.dtype
        cache = {name: _from_numpy(state.arrays[name], dtype) for name in self._cache.shapes(index)}
        if {name: tuple(part.shape) for name, part in cache.items()} != self._cache.shapes(index):
            raise UserError("this state does not fit this world's context; it is torn or was made by hand")
        self._cache.restore(index, cache)
        place = self._places[index]
        if place is not None:
            place.restore(
                {name.removeprefix("place."): part for name, part in state.arrays.items() if name.startswith("place.")}
            )
        self.steps = state.meta["steps"]
        self._last[index] = torch.from_numpy(state.arrays["latents"].copy())
        self._frames[index], self._picture = last_frames(state.arrays["shown"], self._frames.shape[1]), None
        self._seeds[index], self._ticks[index] = int(state.meta["seed"]), int(state.meta["chunks"])
        alive = state.meta.get("alive", not state.meta.get("ended"))  # older states know only whether it had ended
        self._alive[index], self._started[index] = float(alive), True
        self._captions[index] = state.meta["caption"]
        return self._shown[index].copy()

    def _identity(self) -> dict[str, Any]:
        """Return what must be equal in the world that saved a state and the one that restores it."""
        return {
            "checkpoint": self._digest, "task": self._spec.task, "frame_size": list(self._spec.frame_size),
            "dtype": str(self._cache.keys.dtype),
        }  # fmt: skip

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self._spec.num_worlds:
            raise UserError(f"there is no game {index}; this world has 0 to {self._spec.num_worlds - 1}")

    def close(self) -> None:
        """Nothing to release; memory goes with the object."""

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> np.ndarray:
        """Decode ``(b, f, h, w, c)`` to frames ``uint8 (b, f, H, W, 3)``."""
        return self.model.autoencoder.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2]).numpy()


def _to_numpy(tensor: Tensor) -> np.ndarray:
    # NumPy knows no bf16: those bits travel as int16.
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def _from_numpy(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.asarray(array).copy())
    return tensor.view(dtype) if tensor.dtype == torch.int16 else tensor
