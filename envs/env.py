"""One game of any world as a Gymnasium environment."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import logger, spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from latentcraft.envs.branching import branches
from latentcraft.envs.episode import choose_start, reset_info, settle, step_info, unsure
from latentcraft.envs.human import HumanWindow
from latentcraft.envs.observations import Observation, check_bound, open_world, pick
from latentcraft.envs.spaces import action_space, chunk_actions
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import TICKS_PER_SECOND, World, WorldState


class WorldEnv(gym.Env[Any, dict[str, Any]]):
    """The learned world (``latentcraft/Dream-v0``) or the reference world (``latentcraft/Voxel-v0``).

    Both have the same spaces, tasks and starts: a policy written for one runs in the other unchanged. A step is one
    chunk of ``f`` ticks (4 by default) of 1/20 s.

    ## Action Space

    ``Dict``: the buttons ``forward back left right jump sneak sprint attack use hotbar.1 ... hotbar.9``, each
    ``Discrete(2)``, and ``camera``, ``Box(-30, 30, (2,))``: (pitch, yaw) in degrees per tick, positive down and to
    the right (MineRL's names and units). The action is held for the ``f`` ticks of the step, so ``camera=(0, 5)``
    turns 20 degrees. Absent keys count as 0. With ``per_frame_actions`` each leaf has a leading axis ``f``: one
    action per tick. :mod:`latentcraft.envs.wrappers` gives MultiDiscrete and Discrete spaces.

    ## Observation Space

    By ``observation``, always of the step's last frame:

    * ``rgb``: ``Box(0, 255, (H, W, 3), uint8)``, (96, 160) by default;
    * ``latent``: ``Box(-sqrt(c), sqrt(c), (h, w, c), float32)``, (12, 20, 8) by default, each position of unit RMS. The
      dream then decodes one frame in four, which it needs for its next guess, and shows none; the reference world's
      frame is encoded by the checkpoint's autoencoder;
    * ``both``: ``Dict(rgb=..., latent=...)``;
    * ``none``: ``Box(0, 1, (0,), float32)``, empty: nothing is drawn. For a planner that looks at rewards only.

    With ``per_frame_observations`` all ``f`` frames of the step, on a leading axis. Gymnasium's
    ``FrameStackObservation`` stacks steps.

    ## Rewards

    The sum of the task's rewards over the ticks of the step, up to and including the tick at which the task ended.
    ``free`` pays nothing; ``chop`` 1 a block of wood; ``navigate`` 1 at the beacon; ``navigate-shaped`` also 0.1 a
    block come nearer; ``build`` 1 a marked cell filled, -1 emptied; ``explore`` 1 a patch of new ground (4 x 4 blocks).
    The reference world pays from its state, the dream what its reward head expects.

    ## Starting State

    ``reset(seed=s)`` starts world ``s``: terrain, spawn, task, weather and time of day are functions of the seed, and
    both worlds begin at the same moment, after a warm-up of a few chunks. Seeds from 900000 up were never trained on.
    Without a seed one below 900000 is drawn from ``np_random``. ``reset(options=...)`` takes

    * ``seed``: a world seed, leaving ``np_random`` alone; None starts from nothing (dream only),
    * ``episode`` (path of an episode) or ``media`` (path of an image or a video), from ``frame`` on (dream only),
    * ``state``: a state that :meth:`save` returned.

    ## Episode End

    Terminated when the task says so (in the dream, when the termination head does): ``navigate`` at the beacon,
    ``build`` with all cells filled. Truncated

    * by Gymnasium's ``TimeLimit`` after 600 steps (two minutes of game); ``gymnasium.make(..., max_episode_steps=n)``
      changes that;
    * with ``max_uncertainty``, when a dreamed step's ``info["uncertainty"]`` exceeds it: what comes after is
      invention, and nothing an agent should learn from.

    A step after the end raises ``ResetNeeded``.

    ## Info

    ``tick_rewards`` ``float32 (f,)``, ``tick_terminated`` ``bool (f,)`` and ``ticks`` (how many of them counted), with
    the world's own entries: ``caption``, ``task``, in the reference world ``pose``, ``poses`` and the task's state, in
    the dream ``uncertainty`` and ``recalled``, see :class:`latentcraft.simulator.dream.world.DreamWorld`. After a reset
    ``seed``. Where frames are observed also ``frames`` ``uint8 (f, H, W, 3)``, after a reset the last before the first
    step. ``info_frames=False`` leaves them out: then
    only frames that are observed are drawn, which makes the reference world more than three times as fast.

    ## Searching

    :meth:`save` and :meth:`restore` go back to a moment; :meth:`branch` gives a batch of games that go on from it, for
    a planner to try actions in. :mod:`latentcraft.agents.planner` is one.

    ## Rendering

    ``rgb_array`` gives the last frame, ``rgb_array_list`` all frames since the last call, ``human`` shows every frame
    in a window at 20 a second. ``metadata["render_fps"]`` is 20 for the last two and 20 / f for ``rgb_array``, since
    one frame a step is rendered.

    ## Arguments

    See :meth:`__init__`; ``gymnasium.make("latentcraft/Dream-v0", task="chop", steps=2)`` passes them on.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["human", "rgb_array", "rgb_array_list"],
        "render_fps": TICKS_PER_SECOND,
    }

    def __init__(
        self,
        world: str | World = "dream",
        *,
        task: str = "free",
        frame_size: tuple[int, int] | None = None,
        chunk: int | None = None,
        checkpoint: Path | str | None = None,
        steps: int = 4,
        recall: bool = True,
        observation: Observation = "rgb",
        per_frame_observations: bool = False,
        per_frame_actions: bool = False,
        max_uncertainty: float | None = None,
        info_frames: bool | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the world (the dream loads its checkpoint).

        Args:
            world: ``dream``, ``voxel`` or a :class:`World` of one game, which makes the next six moot (but for the
                checkpoint, where latents are asked of a world that has none).
            task: one of :data:`latentcraft.model.tasks.TASKS`.
            frame_size: (H, W) in pixels, multiples of 16; None takes the world's own.
            chunk: ticks in a step; None takes the world's own.
            checkpoint: the dream's file, and whose autoencoder makes the reference world's latents; None takes the
                shipped one.
            steps: denoising steps of the dream: 1, 2, 4 or 8.
            recall: whether the dream recalls recorded places and shows near ground from a map of blocks, see
                :class:`latentcraft.simulator.dream.world.DreamWorld`.
            observation: ``rgb``, ``latent``, ``both`` or ``none``; see *Observation Space*.
            per_frame_observations: all frames of a step instead of the last.
            per_frame_actions: one action per tick instead of one held for the step.
            max_uncertainty: truncate where the dream's uncertainty exceeds it, from 0 to 1; None never does. The
                reference world is never uncertain.
            info_frames: whether infos hold all frames of a step; None: where frames are observed.
            render_mode: ``human``, ``rgb_array``, ``rgb_array_list`` or None.

        Raises:
            UserError: a bad value; a missing or foreign checkpoint, or one whose heads do not know the task.
        """
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UserError(f"unknown render_mode {render_mode!r}; known: {', '.join(self.metadata['render_modes'])}")
        self._max_uncertainty = check_bound(max_uncertainty)
        self._info_frames = observation in ("rgb", "both") if info_frames is None else info_frames
        self._checkpoint = checkpoint
        world, self._observer = open_world(
            world, observation, per_frame=per_frame_observations, info_frames=self._info_frames,
            render_mode=render_mode, checkpoint=checkpoint, task=task, frame_size=frame_size, chunk=chunk, steps=steps,
            recall=recall,
        )  # fmt: skip
        if world.spec.num_worlds != 1:
            raise UserError(f"WorldEnv takes a world of one game, got {world.spec.num_worlds}; see WorldVectorEnv")
        self.world = world
        self.render_mode = render_mode
        self.per_frame_actions = per_frame_actions
        self.chunk = world.spec.chunk
        self.action_space: spaces.Dict = action_space(self.chunk, per_frame=per_frame_actions)
        self.observation_space = self._observer.space
        rendered = 1 if render_mode in (None, "rgb_array") else self.chunk
        self.metadata = {**self.metadata, "render_fps": TICKS_PER_SECOND * rendered / self.chunk}
        self._frames: np.ndarray | None = None  # (k, H, W, 3) last shown; None before the first reset
        self._over = False
        self._unrendered: list[np.ndarray] = []
        self._window: HumanWindow | None = None
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see *Starting State* above.

        Args:
            seed: world seed; it seeds ``np_random`` too.
            options: ``seed``, ``episode``, ``frame``, ``media`` or ``state``.

        Raises:
            UserError: an unknown option, or a start that this world does not know.
        """
        self._check_open()
        super().reset(seed=seed)
        start = choose_start(options, seed, self.np_random)
        frames = self.world.restore(start) if isinstance(start, WorldState) else self.world.reset([start])[0]
        return self._begin(frames), reset_info(frames, start, frames=self._info_frames)

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play one chunk.

        Args:
            action: see *Action Space* above.

        Raises:
            ResetNeeded: before the first reset or after the end of an episode.
            UserError: an action that is not of the space.
        """
        self._check_started()
        if self._over:
            raise ResetNeeded("the episode has ended; call reset() before the next step()")
        actions = chunk_actions(action, None, self.chunk, per_frame=self.per_frame_actions)
        chunk = self.world.step(actions)
        outcome = settle(chunk)
        terminated = bool(outcome.terminated[0])
        truncated = not terminated and bool(unsure(chunk, self._max_uncertainty)[0])
        self._over = terminated or truncated
        info = step_info(chunk, outcome.ticks[0], 0, frames=self._info_frames)
        self._show(chunk.frames[0])
        return self._observe(chunk.frames[0]), float(outcome.reward[0]), terminated, truncated, info

    def save(self) -> WorldState:
        """Return the exact state of the game; ``np_random`` and a ``TimeLimit`` around are not part of it."""
        self._check_started()
        return self.world.save()

    def restore(self, state: WorldState) -> tuple[Any, dict[str, Any]]:
        """Continue from ``state``; ``reset(options={"state": state})`` does the same through wrappers.

        Raises:
            UserError: the state is of another kind of world.
        """
        self._check_open()
        frames = self.world.restore(state)
        return self._begin(frames), reset_info(frames, state, frames=self._info_frames)

    def branch(self, num_envs: int, *, observation: Observation | None = None) -> WorldVectorEnv:
        """Return a batch of ``num_envs`` games that all go on from this moment.

        See :func:`latentcraft.envs.branching.branches`: ended ones stay ended, none is reset.

        This game is left alone. The dream's nets are shared. A dream's noise is part of the moment: branches that do
        the same see the same.

        Args:
            num_envs: how many.
            observation: what is observed of them; None as of this game. ``none`` is fastest.

        Raises:
            ResetNeeded: there is no game yet.
            UserError: a bad value, or a world of a kind that cannot be branched.
        """
        self._check_started()
        return branches(
            self.world, self.world.save(), num_envs,
            observation=self._observer.observation if observation is None else observation,
            per_frame_observations=self._observer.per_frame, per_frame_actions=self.per_frame_actions,
            max_uncertainty=self._max_uncertainty, checkpoint=self._checkpoint,
        )  # fmt: skip

    def render(self) -> Any:
        """Return the last frame (``rgb_array``), all new ones (``rgb_array_list``) or None (``human``)."""
        self._check_open()
        if self.render_mode is None:
            logger.warn("render() does nothing without a render_mode; pass render_mode='rgb_array' to gymnasium.make")
            return None
        frames = self._check_started()
        if self.render_mode == "rgb_array":
            return frames[-1].copy()
        if self.render_mode == "rgb_array_list":
            new, self._unrendered = self._unrendered, []
            return new
        return None

    def close(self) -> None:
        """Close the world and the window; closing again does nothing."""
        if not self._closed:
            self._closed = True
            self.world.close()
            if self._window is not None:
                self._window.close()

    def _begin(self, frames: np.ndarray) -> Any:
        """Take ``frames`` ``(k, H, W, 3)`` as what was seen before the first step; returns the observation."""
        self._over = False
        self._unrendered = []
        self._show(frames[-1:])
        return self._observe(frames)

    def _observe(self, frames: np.ndarray) -> Any:
        self._frames = frames
        return pick(self._observer(frames[None]), 0)

    def _show(self, frames: np.ndarray) -> None:
        if self.render_mode == "rgb_array_list":
            self._unrendered.extend(frame.copy() for frame in frames)
        elif self.render_mode == "human":
            if self._window is None:
                self._window = HumanWindow(self.world.spec.frame_size, f"latentcraft: {self.world.spec.name}")
            self._window.show(frames)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed; make a new one")

    def _check_started(self) -> np.ndarray:
        """Return the frames last seen, or raise if there is no game."""
        self._check_open()
        if self._frames is None:
            raise ResetNeeded("there is no game yet; call reset() first")
        return self._frames
