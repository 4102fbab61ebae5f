"""One game of any world as a Gymnasium environment."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import logger, spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from latentcraft.envs.episode import choose_start, reset_info, settle, step_info
from latentcraft.envs.human import HumanWindow
from latentcraft.envs.spaces import Observation, action_space, chunk_actions, observation_space
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import TICKS_PER_SECOND, World, WorldState
from latentcraft.simulator.worlds import make_world


class WorldEnv(gym.Env[np.ndarray, dict[str, Any]]):
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

    ``Box(0, 255, (H, W, 3), uint8)``: the last frame of the step, RGB, (96, 160) by default. With
    ``observation="chunk"`` all frames of the step, ``(f, H, W, 3)``.

    ## Rewards

    The sum of the task's rewards over the ticks of the step, up to and including the tick at which the task ended.
    ``free`` pays nothing; see :data:`latentcraft.model.tasks.TASKS`. In the dream the reward is the model's
    estimate.

    ## Starting State

    ``reset(seed=s)`` starts world ``s``: terrain, spawn, task, weather and time of day are functions of the seed, and
    both worlds begin at the same moment, after a warm-up of a few chunks. Seeds from 900000 up were never trained on.
    Without a seed one below 900000 is drawn from ``np_random``. ``reset(options=...)`` takes

    * ``seed``: a world seed, leaving ``np_random`` alone; None starts from nothing (dream only),
    * ``episode`` (path of an episode) or ``media`` (path of an image or a video), from ``frame`` on (dream only),
    * ``state``: a state that :meth:`save` returned.

    ## Episode End

    Terminated when the task says so. Truncated, by Gymnasium's ``TimeLimit``, after 600 steps (two minutes of game);
    ``gymnasium.make(..., max_episode_steps=n)`` changes that. A step after the end raises ``ResetNeeded``.

    ## Info

    ``frames`` ``uint8 (f, H, W, 3)``, ``tick_rewards`` ``float32 (f,)``, ``tick_terminated`` ``bool (f,)`` and
    ``ticks`` (how many of them counted), with the world's own entries, for the reference world ``pose`` and
    ``caption``. After a reset: ``frames`` (the last before the first step) and ``seed``.

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
        observation: Observation = "frame",
        per_frame_actions: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Build the world (the dream loads its checkpoint).

        Args:
            world: ``dream``, ``voxel`` or a :class:`World` of one game, which makes the next five moot.
            task: one of :data:`latentcraft.model.tasks.TASKS`.
            frame_size: (H, W) in pixels, multiples of 16; None takes the world's own.
            chunk: ticks in a step; None takes the world's own.
            checkpoint: the dream's file; None takes the shipped one.
            steps: denoising steps of the dream: 1, 2, 4 or 8.
            observation: ``frame`` (the last of a step) or ``chunk`` (all of it).
            per_frame_actions: one action per tick instead of one held for the step.
            render_mode: ``human``, ``rgb_array``, ``rgb_array_list`` or None.

        Raises:
            UserError: a bad value, a missing or foreign checkpoint.
        """
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UserError(f"unknown render_mode {render_mode!r}; known: {', '.join(self.metadata['render_modes'])}")
        if isinstance(world, str):
            world = make_world(
                world, task=task, frame_size=frame_size, chunk=chunk, checkpoint=checkpoint, steps=steps
            )  # fmt: skip
        if world.spec.num_worlds != 1:
            raise UserError(f"WorldEnv takes a world of one game, got {world.spec.num_worlds}; see WorldVectorEnv")
        self.world = world
        self.render_mode = render_mode
        self.per_frame_actions = per_frame_actions
        self.chunk = world.spec.chunk
        self.observation: Observation = observation
        self.action_space: spaces.Dict = action_space(self.chunk, per_frame=per_frame_actions)
        self.observation_space = observation_space(world.spec.frame_size, self.chunk, observation)
        rendered = 1 if render_mode in (None, "rgb_array") else self.chunk
        self.metadata = {**self.metadata, "render_fps": TICKS_PER_SECOND * rendered / self.chunk}
        self._frames: np.ndarray | None = None  # (f, H, W, 3) last seen; None before the first reset
        self._over = False
        self._unrendered: list[np.ndarray] = []
        self._window: HumanWindow | None = None
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
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
        info = reset_info(frames, start)
        return self._begin(info["frames"]), info

    def step(self, action: dict[str, Any]) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
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
        self._over = bool(outcome.terminated[0])
        info = step_info(chunk, outcome.ticks[0], 0)
        self._show(info["frames"])
        return self._observe(info["frames"]), float(outcome.reward[0]), self._over, False, info

    def save(self) -> WorldState:
        """Return the exact state of the game; ``np_random`` and a ``TimeLimit`` around are not part of it."""
        self._check_started()
        return self.world.save()

    def restore(self, state: WorldState) -> tuple[np.ndarray, dict[str, Any]]:
        """Continue from ``state``; ``reset(options={"state": state})`` does the same through wrappers.

        Raises:
            UserError: the state is of another kind of world.
        """
        self._check_open()
        frames = self.world.restore(state)
        info = reset_info(frames, state)
        return self._begin(info["frames"]), info

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

    def _begin(self, frames: np.ndarray) -> np.ndarray:
        """Take ``frames`` ``(f, H, W, 3)`` as what was seen before the first step; returns the observation."""
        self._over = False
        self._unrendered = []
        self._show(frames[-1:])
        return self._observe(frames)

    def _observe(self, frames: np.ndarray) -> np.ndarray:
        self._frames = frames
        # A copy, since a view would keep the whole chunk alive in a replay buffer.
        return frames[-1].copy() if self.observation == "frame" else frames.copy()

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
