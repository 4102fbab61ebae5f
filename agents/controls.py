"""What the player's hands are doing, between two chunks: held keys and mouse motion become a chunk of actions."""

import numpy as np

from latentcraft.agents.keymap import LOOKS
from latentcraft.model.actions import BUTTON_INDEX, CAMERA_LIMIT, PITCH, noop

LOOK_SPEED = 4.5
"""Degrees a tick while a look key is held: 90 degrees a second."""
STICK_SPEED = 9.0
"""Degrees a tick at a stick's end: 180 degrees a second."""


class Controls:
    """Collects input as it happens; :meth:`sample` turns it into actions just before a chunk is computed.

    A key that is down when sampled acts for the whole chunk. A key that went down and up again since the last sample
    acts for one tick, so that no tap is lost however long a chunk takes. Mouse motion since the last sample is spread
    evenly over the chunk's ticks.
    """

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._tapped: set[str] = set()
        self._motion = np.zeros(2)
        self._lean = np.zeros(2)

    def press(self, key: str, action: str) -> None:
        """Note that ``key`` went down; ``action`` is a button or one of the looks."""
        self._held[key] = action
        self._tapped.add(action)

    def release(self, key: str) -> None:
        """Note that ``key`` went up."""
        self._held.pop(key, None)

    def tap(self, action: str) -> None:
        """Do ``action`` for one tick, as the mouse wheel does."""
        self._tapped.add(action)

    def turn(self, pitch: float, yaw: float) -> None:
        """Add mouse motion in degrees."""
        self._motion += (pitch, yaw)

    def lean(self, pitch: float, yaw: float) -> None:
        """Turn on and on, as a stick does: 1 is :data:`STICK_SPEED`, 0 stops."""
        self._lean[:] = pitch, yaw

    def release_all(self) -> None:
        """Forget everything: the window lost the keyboard, or a new game began."""
        self._held.clear()
        self._tapped.clear()
        self._motion[:] = 0
        self._lean[:] = 0

    def sample(self, ticks: int) -> np.ndarray:
        """Return the next chunk's actions ``float32 (ticks, 20)`` and begin collecting anew."""
        actions = noop(ticks)
        held = set(self._held.values())
        for action in held | self._tapped:
            span = slice(None) if action in held else slice(0, 1)
            if action in LOOKS:
                actions[span, PITCH:] += np.multiply(LOOKS[action], LOOK_SPEED)
            else:
                actions[span, BUTTON_INDEX[action]] = 1
        actions[:, PITCH:] += self._motion / ticks + self._lean * STICK_SPEED
        # What is beyond the limit is dropped: a view that goes on turning after the hand has stopped feels broken.
        actions[:, PITCH:] = actions[:, PITCH:].clip(-CAMERA_LIMIT, CAMERA_LIMIT)
        self._tapped.clear()
        self._motion[:] = 0
        return actions
