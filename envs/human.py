"""The window behind ``render_mode="human"``. pygame is imported when one is opened, not before."""

import os

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import TICKS_PER_SECOND

WINDOW_WIDTH = 960
"""Pixels that the frame is enlarged to, by a whole factor."""


class HumanWindow:
    """Shows frames at the game's 20 a second. Closing it ends the view, not the environment."""

    def __init__(self, frame_size: tuple[int, int], title: str) -> None:
        """Open a window for frames of ``frame_size`` (H, W).

        Raises:
            UserError: there is no display.
        """
        import pygame

        height, width = frame_size
        self._scale = max(1, WINDOW_WIDTH // width)
        no_display = "render_mode='human' needs a display and finds none; use render_mode='rgb_array'"
        try:
            pygame.display.init()
            # Without a display SDL falls back to drawing where nobody can see it.
            if pygame.display.get_driver() == "offscreen" and not os.environ.get("SDL_VIDEODRIVER"):
                pygame.display.quit()
                raise UserError(no_display)
            self._screen = pygame.display.set_mode((width * self._scale, height * self._scale))
        except pygame.error as error:
            raise UserError(no_display) from error
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._open = True

    def show(self, frames: np.ndarray) -> None:
        """Show ``frames`` ``uint8 (f, H, W, 3)`` one after the other, each for a tick."""
        import pygame

        for frame in frames:
            if not self._open:
                return
            surface = pygame.image.frombuffer(frame.tobytes(), (frame.shape[1], frame.shape[0]), "RGB")
            self._screen.blit(pygame.transform.scale(surface, self._screen.get_size()), (0, 0))
            pygame.display.flip()
            self._clock.tick(TICKS_PER_SECOND)
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                self.close()

    def close(self) -> None:
        """Close the window; closing it again does nothing."""
        import pygame

        if self._open:
            self._open = False
            pygame.display.quit()
