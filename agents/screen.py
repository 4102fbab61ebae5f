"""The picture in the window: frames, crisply enlarged, with lines of text over them."""

import os
from collections.abc import Callable, Sequence

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # before the import, or it greets on standard output

import pygame

from latentcraft.agents.panes import Pane, arrange, factor_of

DESKTOP_SHARE = 0.75
"""The first window takes at most this share of the desktop's width and height."""
UNSEEN_DRIVERS = ("dummy", "offscreen")
"""SDL falls back to these when no display answers; nobody would see the window."""
FONT_HEIGHT = 20
SMALLER = (17, 14, 12)
"""Heights for a help page in a small window."""
EDGE = 6
"""Pixels between the window's edge and text."""
GAP = 2
"""Pixels of the line between two panes."""
INK, SHADE = (240, 240, 240), (0, 0, 0, 150)


class NoDisplayError(Exception):
    """No window can be opened here; the message says why in one line."""


class Screen:
    """A resizable window that shows frames.

    Args:
        frame_size: (H, W) of the frames to come, pixels.
        title: the window's title.
        scale: whole factor of enlargement at first; None fits the desktop.
        fullscreen: take the whole screen.

    Raises:
        NoDisplayError: SDL cannot open a window.
    """

    def __init__(self, frame_size: tuple[int, int], title: str, scale: int | None, fullscreen: bool) -> None:
        height, width = frame_size
        try:
            pygame.display.init()
            if pygame.display.get_driver() in UNSEEN_DRIVERS:
                raise pygame.error("no video driver reaches a display")
            pygame.font.init()
            if scale is None:
                room_x, room_y = (DESKTOP_SHARE * size for size in pygame.display.get_desktop_sizes()[0])
                scale = max(1, min(int(room_x // width), int(room_y // height)))
            self._window_size = (width * scale, height * scale)
            self._fullscreen = not fullscreen
            self.toggle_fullscreen()
        except pygame.error as error:
            pygame.quit()
            raise NoDisplayError(f"SDL cannot open a window: {error}") from error
        pygame.display.set_caption(title)
        self._fonts = [pygame.font.Font(None, height) for height in (FONT_HEIGHT, *SMALLER)]
        self._font = self._fonts[0]

    def toggle_fullscreen(self) -> None:
        """Take the whole screen, or go back to a window of the size it had."""
        # Not pygame.display.toggle_fullscreen, which loses the window's size and whether it can be resized.
        self._fullscreen = not self._fullscreen
        if self._fullscreen:
            if pygame.display.get_surface() is not None:
                self._window_size = pygame.display.get_window_size()
            pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            pygame.display.set_mode(self._window_size, pygame.RESIZABLE)

    def draw(
        self, rows: list[list[Pane]], figures: Sequence[str], help_page: Sequence[tuple[str, str]], note: str
    ) -> None:
        """Show rows of panes, figures above, the help page below them, a note at the bottom."""
        surface = pygame.display.get_surface()
        surface.fill((0, 0, 0))
        if rows:
            self._panes(surface, rows)
        below = self._sheet([(line,) for line in figures], EDGE)
        self._sheet(help_page, below + EDGE, shrink=True)
        if note:
            lines = wrap(note, surface.get_width() - 2 * EDGE - 8, lambda text: self._font.size(text)[0])
            high = len(lines) * (self._font.get_linesize() + 2) + 4
            self._sheet([(line,) for line in lines], surface.get_height() - high - EDGE)
        pygame.display.flip()

    def _panes(self, surface: pygame.Surface, rows: list[list[Pane]]) -> None:
        height, width = rows[0][0].picture.shape[:2]
        rows = arrange(rows, (height, width), surface.get_size())
        # Whole factors only, so that every pixel of the world is a square of equal size.
        factor = factor_of(rows, (height, width), surface.get_size())
        columns = max(map(len, rows))
        place = pygame.Rect(0, 0, width * factor * columns, height * factor * len(rows))
        place.center = surface.get_rect().center
        for y, row in enumerate(rows):
            for x, (label, frame) in enumerate(row):
                picture = pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
                picture = pygame.transform.scale(picture, (width * factor, height * factor))
                corner = (place.left + x * width * factor, place.top + y * height * factor)
                surface.blit(picture, corner)
                if label:
                    right, bottom = corner[0] + width * factor - EDGE, corner[1] + height * factor - EDGE
                    self._label(label, right, bottom, room=width * factor - 2 * EDGE)
            if y:
                pygame.draw.line(surface, (0, 0, 0), (place.left, corner[1]), (place.right, corner[1]), GAP)
        for x in range(1, columns):
            at = place.left + x * width * factor
            pygame.draw.line(surface, (0, 0, 0), (at, place.top), (at, place.bottom), GAP)

    def _label(self, text: str, right: int, bottom: int, *, room: int) -> None:
        """Write ``text`` on a dark sheet that ends at (right, bottom), small enough for ``room`` pixels."""
        font = next((font for font in self._fonts if font.size(text)[0] + 8 <= room), self._fonts[-1])
        words = font.render(text, True, INK)
        sheet = pygame.Surface((words.get_width() + 8, words.get_height() + 4), pygame.SRCALPHA)
        sheet.fill(SHADE)
        sheet.blit(words, (4, 2))
        pygame.display.get_surface().blit(sheet, sheet.get_rect(bottomright=(right, bottom)))

    def pixels(self) -> tuple[tuple[int, int], bytes]:
        """Return (H, W) and the RGB bytes of what the window shows."""
        surface = pygame.display.get_surface()
        return (surface.get_height(), surface.get_width()), pygame.image.tobytes(surface, "RGB")

    def close(self) -> None:
        """Close the window and SDL."""
        pygame.quit()

    def _sheet(self, rows: Sequence[tuple[str, ...]], top: int, *, shrink: bool = False) -> int:
        """Draw rows of one or two cells on a dark sheet; returns where it ends.

        Rows that have not enough room stand in smaller letters; with ``shrink``, in two columns before that.
        """
        if not rows:
            return top
        surface = pygame.display.get_surface()
        room = (surface.get_width() - EDGE, surface.get_height() - top)
        layouts = [(font, columns) for font in self._fonts for columns in ((1, 2) if shrink else (1,))]
        for font, columns in layouts:  # the last one if none fits
            step, high = font.get_linesize() + 2, -(-len(rows) // columns)
            parts = [rows[at : at + high] for at in range(0, len(rows), high)]
            tabs = [
                max(font.size(row[0])[0] for row in part) + FONT_HEIGHT if len(rows[0]) > 1 else 0 for part in parts
            ]
            wide = [
                max(font.size(row[-1])[0] for row in part) + tab + FONT_HEIGHT
                for part, tab in zip(parts, tabs, strict=True)
            ]
            wide[-1] += 8 - FONT_HEIGHT  # nothing stands to the right of the last column
            if sum(wide) <= room[0] and step * high + 4 <= room[1]:
                break
        sheet = pygame.Surface((sum(wide), step * high + 4), pygame.SRCALPHA)
        sheet.fill(SHADE)
        for column, (part, tab) in enumerate(zip(parts, tabs, strict=True)):
            left = 4 + sum(wide[:column])
            for y, row in enumerate(part):
                for j, cell in enumerate(row):
                    sheet.blit(font.render(cell, True, INK), (left + j * tab, 3 + y * step))
        surface.blit(sheet, (EDGE, top))
        return top + sheet.get_height()


def wrap(text: str, width: int, measure: Callable[[str], int]) -> list[str]:
    """Break ``text`` into lines no wider than ``width`` by ``measure``, at spaces where there are any."""
    lines: list[str] = []
    for word in text.split():
        if lines and measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while len(word) > 1 and measure(word) > width:  # a long path, for instance
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or measure(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return lines
