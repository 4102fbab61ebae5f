"""Any Gymnasium environment that shows pixels, spoken to in this project's frames and action vectors.

**Frames** are resized by area averaging to fit the frame size with their aspect kept, and padded with black. They are
the observation, one entry of a Dict observation (``image_key``), or what ``render()`` draws (``render=True``).

**Actions** are carried by the 20-entry action vector, by this table:

======================  ============================================================================================
action space            how it is carried
======================  ============================================================================================
Discrete, Atari's       each action by the words of its name: UP forward, DOWN back, LEFT left, RIGHT right,
                        FIRE attack; NOOP presses nothing (``UPRIGHTFIRE`` is forward + right + attack)
Discrete(n)             the number (from 0), in binary, low bit first, over the buttons in their order: 0 presses
                        nothing, 1 forward, 2 back, 3 forward + back, 4 left, ...
MultiBinary             each bit one button, in their order
MultiDiscrete           each component as Discrete, one after the other on as many buttons as its largest number needs
Box, one-dimensional,   the first component is the camera's yaw and the second its pitch, from ``low`` at -30 to
bounded                 ``high`` at +30 degrees; every further one a button: ``low`` when up, ``high`` when down
======================  ============================================================================================

There are 18 buttons; what needs more, and any other space, is refused. The table is invertible on the vectors it
makes: ``encode(decode(vector)) == vector``, also after the vector was written to an episode and read again. What the
environment gets is always ``decode`` of the recorded vector, so a recording never says other than what was played.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from gymnasium import spaces

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, BUTTONS, CAMERA_LIMIT, NUM_BUTTONS, PITCH, YAW, noop

ATARI_WORDS = {"UP": "forward", "DOWN": "back", "LEFT": "left", "RIGHT": "right", "FIRE": "attack"}
HOLD_TICKS = (2, 12)
"""A sampled action is held for this many ticks (lowest, highest): held actions have effects one can see."""
_CAMERA_DIGITS = 4
"""Decimals of a camera angle that carries a number; fewer than an episode keeps, so that nothing is lost there."""


class ActionTable:
    """The mapping between one action space and action vectors; see the module's docstring."""

    def __init__(self, space: spaces.Space[Any], meanings: list[str] | None = None) -> None:
        """Lay out the table.

        Args:
            space: the environment's action space.
            meanings: names of a Discrete space's actions; used if they are made of Atari's words.

        Raises:
            UserError: a space that the vector cannot carry.
        """
        self.space = space
        self._named = _named_vectors(meanings) if isinstance(space, spaces.Discrete) and meanings else None
        if isinstance(space, spaces.Discrete):
            self._sizes = [int(space.n)]
        elif isinstance(space, spaces.MultiBinary):
            self._sizes = [2] * int(np.prod(space.shape))
        elif isinstance(space, spaces.MultiDiscrete):
            self._sizes = [int(size) for size in space.nvec.reshape(-1)]
        elif isinstance(space, spaces.Box) and len(space.shape) == 1 and space.is_bounded("both"):
            self._sizes = [2] * max(0, space.shape[0] - 2)
        else:
            raise UserError(
                f"action space {space} cannot be recorded; Discrete, MultiBinary, MultiDiscrete and bounded "
                "one-dimensional Box can: wrap the environment"
            )
        self._widths = [max(1, math.ceil(math.log2(size))) for size in self._sizes]
        if sum(self._widths) > NUM_BUTTONS and self._named is None:
            raise UserError(
                f"action space {space} needs {sum(self._widths)} buttons and there are {NUM_BUTTONS}; "
                "wrap the environment in fewer actions"
            )

    def encode(self, action: Any) -> np.ndarray:
        """Return the vector ``float32 (20,)`` that carries ``action``; further Box components go to the nearer end."""
        vector = noop()
        space = self.space
        if self._named is not None:
            return self._named[int(action)].copy()
        if isinstance(space, spaces.Discrete):
            codes = [int(action) - int(space.start)]
        elif isinstance(space, spaces.Box):
            share = (np.asarray(action, np.float64) - space.low) / np.maximum(space.high - space.low, 1e-12)
            for entry, value in zip((YAW, PITCH), share, strict=False):
                vector[entry] = round((2 * min(1.0, max(0.0, float(value))) - 1) * CAMERA_LIMIT, _CAMERA_DIGITS)
            codes = [int(value >= 0.5) for value in share[2:]]
        else:
            start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
            codes = [int(value) for value in (np.asarray(action) - start).reshape(-1)]
        bits = [code >> bit & 1 for code, width in zip(codes, self._widths, strict=True) for bit in range(width)]
        vector[: len(bits)] = bits
        return vector

    def decode(self, vector: np.ndarray) -> Any:
        """Return the action that a vector stands for; a number beyond its range counts as the largest.

        With named actions, buttons that no action's name has are passed over, and a combination that no action has
        stands for the action that shares most with it.
        """
        space = self.space
        if self._named is not None:
            wanted = vector[:NUM_BUTTONS] > 0.5
            same = [int(((named[:NUM_BUTTONS] > 0.5) == wanted).sum()) for named in self._named]
            return int(np.argmax(same)) + int(space.start)  # type: ignore[attr-defined]
        bits, codes = iter(vector[:NUM_BUTTONS] > 0.5), []
        for size, width in zip(self._sizes, self._widths, strict=True):
            codes.append(min(size - 1, sum(int(next(bits)) << bit for bit in range(width))))
        if isinstance(space, spaces.Discrete):
            return codes[0] + int(space.start)
        if isinstance(space, spaces.Box):
            share = np.array([vector[YAW], vector[PITCH]], np.float64)[: space.shape[0]] / CAMERA_LIMIT / 2 + 0.5
            share = np.concatenate([share, np.array(codes, np.float64)])
            return (space.low + share * (space.high - space.low)).astype(space.dtype)
        start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
        return (np.array(codes).reshape(space.shape) + start).astype(space.dtype)  # type: ignore[arg-type]


def _named_vectors(meanings: list[str]) -> list[np.ndarray] | None:
    """Return one vector per name made of Atari's words, None if any is not (or two are the same)."""
    vectors = []
    for meaning in meanings:
        vector, rest = noop(), meaning.removeprefix("NOOP")
        while rest:
            word = next((word for word in ATARI_WORDS if rest.startswith(word)), None)
            if word is None:
                return None
            vector[BUTTON_INDEX[ATARI_WORDS[word]]], rest = 1, rest.removeprefix(word)
        vectors.append(vector)
    return vectors if len({vector.tobytes() for vector in vectors}) == len(vectors) else None


class ForeignEnv:
    """One Gymnasium environment, as the recorder sees it."""

    def __init__(
        self,
        env: str | gymnasium.Env[Any, Any],
        *,
        frame_size: tuple[int, int],
        image_key: str = "",
        render: bool = False,
    ) -> None:
        """Make the environment and check that its pixels and actions can be carried.

        Args:
            env: an id for ``gymnasium.make`` (``module:Id-v0`` imports the module first), or an environment.
            frame_size: (H, W) in pixels of the frames given out.
            image_key: which entry of a Dict observation is the image.
            render: take frames from ``render()`` (the environment is made with ``render_mode="rgb_array"``).

        Raises:
            UserError: an unknown id, no pixels where they were looked for, an action space that cannot be carried.
        """
        self.name = env if isinstance(env, str) else str(env)
        self._env = _make(env, render) if isinstance(env, str) else env
        self._size, self._key, self._render = (int(frame_size[0]), int(frame_size[1])), image_key, render
        self._reformatter = VideoReformatter()
        self._check_pixels()
        try:
            meanings = self._env.get_wrapper_attr("get_action_meanings")()
        except AttributeError:
            meanings = None
        self.table = ActionTable(self._env.action_space, meanings)
        self._rng = np.random.default_rng()
        self._held, self._left = noop(), 0
        self._frame = np.zeros((*self._size, 3), np.uint8)
        self._over = False

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns its first frame ``uint8 (H, W, 3)``. Sampled actions are functions of the seed."""
        observation, _ = self._env.reset(seed=seed)
        self._env.action_space.seed(seed)
        self._rng = np.random.default_rng([seed, 0xF0])
        self._left, self._over = 0, False
        self._frame = self._picture(observation)
        return self._frame

    def sample(self) -> np.ndarray:
        """Return a random action vector ``float32 (20,)``: the space's own sample, held for a few ticks."""
        if not self._left:
            self._held = self.table.encode(self._env.action_space.sample())
            self._left = int(self._rng.integers(HOLD_TICKS[0], HOLD_TICKS[1] + 1))
        self._left -= 1
        return self._held.copy()

    def step(self, vector: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Play one tick; returns (frame, reward, terminated, truncated).

        After its end the game stands still on its last frame, ``terminated`` stays true and nothing is paid.
        """
        if self._over:
            return self._frame, 0.0, True, False
        observation, reward, terminated, truncated, _ = self._env.step(self.table.decode(vector))
        self._frame, self._over = self._picture(observation), bool(terminated)
        return self._frame, float(reward), bool(terminated), bool(truncated)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _check_pixels(self) -> None:
        space = self._env.observation_space
        if self._render:
            if self._env.render_mode != "rgb_array":
                raise UserError(f"{self.name} was not made with render_mode='rgb_array'; render=true needs it")
            return
        if isinstance(space, spaces.Dict):
            images = [key for key, entry in space.spaces.items() if _is_image(entry)]
            if self._key not in images:
                raise UserError(
                    f"{self.name} observes a Dict; give image_key=, one of its images: {', '.join(images) or 'none'}"
                    f" (or render=true), got image_key={self._key!r}"
                )
        elif not _is_image(space):
            raise UserError(f"{self.name} observes {space}, which is no image; give render=true to record its drawing")

    def _picture(self, observation: Any) -> np.ndarray:
        """Return the frame: the image, resized with its aspect kept, padded with black."""
        if self._render:
            image = self._env.render()
        else:
            image = observation[self._key] if isinstance(self._env.observation_space, spaces.Dict) else observation
        if not isinstance(image, np.ndarray) or not _is_image_shape(image.shape):
            raise UserError(
                f"{self.name} gave {type(image).__name__} {getattr(image, 'shape', '')} where an image was expected"
            )
        image = _to_rgb(image)
        height, width = image.shape[:2]
        scale = min(self._size[0] / height, self._size[1] / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        small = self._reformatter.reformat(
            picture, inner[1], inner[0], "rgb24", interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()
        frame = np.zeros((*self._size, 3), np.uint8)
        top, left = (self._size[0] - inner[0]) // 2, (self._size[1] - inner[1]) // 2
        frame[top : top + inner[0], left : left + inner[1]] = small
        return frame


def _make(name: str, render: bool) -> gymnasium.Env[Any, Any]:
    if name.startswith("ALE/"):
        try:
            import ale_py
        except ImportError as error:
            raise UserError(f"{name} needs ale-py; pip install ale-py") from error
        gymnasium.register_envs(ale_py)
    try:
        return gymnasium.make(name, render_mode="rgb_array" if render else None)
    except (gymnasium.error.Error, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot make environment {name!r}: {reason}") from error


def _is_image_shape(shape: tuple[int, ...]) -> bool:
    if len(shape) == 3:
        return shape[-1] in (1, 3, 4) or shape[0] in (1, 3)
    return len(shape) == 2


def _is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds images: uint8, or floats from 0 to 1; (H, W), (H, W, 1, 3 or 4) or (1 or 3, H, W)."""
    if not isinstance(space, spaces.Box) or not _is_image_shape(space.shape) or min(space.shape[:2]) < 1:
        return False
    unit = np.issubdtype(space.dtype, np.floating) and space.low.min() >= 0 and space.high.max() <= 1
    return space.dtype == np.uint8 or bool(unit)


def _to_rgb(image: np.ndarray) -> np.ndarray:
    """Return ``uint8 (H, W, 3)`` of an image as :func:`_is_image` allows them."""
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] not in (1, 3, 4):
        image = image.transpose(1, 2, 0)
    return image.repeat(3, -1) if image.shape[-1] == 1 else image[..., :3]


assert set(ATARI_WORDS.values()) <= set(BUTTONS)
