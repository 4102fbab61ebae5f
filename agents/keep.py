"""The last seconds as a film, and what is played as episodes to train on."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from latentcraft.agents.curve import Curve
from latentcraft.agents.panes import arrange, montage, panes_of, psnr
from latentcraft.agents.record import DEPTH_EVERY, remove_leftovers, unwrapped
from latentcraft.agents.shot import TRUTH, Facts, Shot
from latentcraft.agents.timeline import Entry, Timeline
from latentcraft.agents.video import VIDEO_SUFFIXES, check_suffix, enlarge, watchable_scale, write_video
from latentcraft.files import replacing
from latentcraft.model.episodes import EpisodeWriter
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Chunk, World

PIECE_TICKS = 400
"""Ticks of an episode that is recorded from play, as of the recorder's. Play longer than that becomes several, each
beginning with the picture the one before ended with: should the machine stop, the last 20 seconds are lost at most."""
GIF_WIDTH = 480
"""GIFs are enlarged to about this width; wider ones take tens of megabytes."""


def last_entries(timeline: Timeline, seconds: float, skip: int = 0) -> list[Entry]:
    """Return the entries that hold the last ``seconds``, oldest first, as far back as they show the same views.

    Args:
        timeline: what was played.
        seconds: of play.
        skip: pictures at the end that were not shown yet; their entries are left out.
    """
    entries: list[Entry] = []
    ticks, number = 0, timeline.end
    while number > timeline.first and ticks < seconds * TICKS_PER_SECOND:
        number -= 1
        entry = timeline[number]
        if skip > 0:
            skip -= len(entry)
            continue
        if entries and entry.pictures.keys() != entries[0].pictures.keys():
            break
        entries.insert(0, entry)
        ticks += len(entry)
    return entries


def pictures_of(entries: Iterable[Entry], *, truth: bool = False) -> Iterator[np.ndarray]:
    """Yield what the window showed at each tick of ``entries``, see :func:`picture_of`."""
    curve = Curve()
    for entry in entries:
        for index in range(len(entry)):
            shot = entry.shot(index)
            if TRUTH in shot.beside and truth:
                curve.add(shot.facts.ticks, psnr(shot.frame, shot.beside[TRUTH]))
            yield picture_of(shot, curve, truth=truth)


def picture_of(shot: Shot, curve: Curve, *, truth: bool = False) -> np.ndarray:
    """Return what the window shows, panes side by side, ``uint8 (H', W', 3)``; with ``truth`` the error too."""
    height, width = shot.frame.shape[:2]
    rows = panes_of(shot, world="", truth=truth, other="", curve=curve)
    return montage(arrange(rows, (height, width), (2 * width, 2 * height)))


def write_clip(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Write frames ``uint8 (H, W, 3)`` at 20 a second as mp4 (or mov, mkv) or as GIF, by the suffix.

    Raises:
        UserError: another suffix, a path that cannot be written.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        write_video(path, frames)
        return
    check_suffix(path, (*VIDEO_SUFFIXES, ".gif"))
    pictures = (_for_gif(frame) for frame in frames)
    with replacing(path) as temporary:
        next(pictures).save(
            temporary, format="GIF", save_all=True, append_images=pictures, duration=1000 // TICKS_PER_SECOND, loop=0
        )


def _for_gif(frame: np.ndarray) -> Image.Image:
    scale = max(1, min(watchable_scale(frame.shape[1]), round(GIF_WIDTH / frame.shape[1])))
    return Image.fromarray(enlarge(frame, scale)).quantize(256, dither=Image.Dither.NONE)


class Recorder:
    """Writes what is played, whoever plays, as episodes of at most :data:`PIECE_TICKS` ticks.

    An episode also ends where play does not go on from its last picture: a new game, going back, a loaded slot.

    Args:
        folder: where episodes go; made if missing.
        world: what is played. The reference world tells poses and distances, which are recorded too.
    """

    def __init__(self, folder: Path, world: World) -> None:
        """Record from the next chunk on."""
        remove_leftovers(folder)
        self._name = f"{folder}/play-{world.spec.name}-{world.spec.task}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._open = ExitStack()
        self._writer: EpisodeWriter | None = None
        self._pose: np.ndarray | None = None
        self._number = 0
        self.ticks = 0
        """Recorded so far."""
        self.episodes = 0
        """Begun so far."""

    def add(self, world: World, before: np.ndarray, chunk: Chunk, actions: np.ndarray, facts: Facts) -> None:
        """Write one chunk.

        Args:
            world: what is played.
            before: ``uint8 (H, W, 3)``, what was seen before it.
            chunk: what the world returned.
            actions: ``float32 (f, 20)``.
            facts: after it.

        Raises:
            UserError: a full disk; the episode that was being written is gone, those before are whole.
        """
        info = chunk.infos[0]
        caption, poses = info.get("caption", ""), info.get("poses")
        if poses is not None:  # a path has no seam where the map has one
            known = self._pose is not None
            poses = unwrapped(np.concatenate([[self._pose], poses]))[1:] if known else np.array(poses, np.float64)
        try:
            if self._writer is None:
                self._writer = self._begin(before, caption, world, facts)
            measure = getattr(world, "distances", None)
            for i, action in enumerate(actions):
                last = i == len(actions) - 1
                due = measure is not None and last and self._writer.length % DEPTH_EVERY < len(actions)
                self._writer.add(
                    action, chunk.frames[0, i], reward=float(chunk.rewards[0, i]),
                    terminated=bool(chunk.terminated[0, i]), pose=None if poses is None else poses[i], caption=caption,
                    distance=measure() if measure is not None and due else None,
                )  # fmt: skip
        except BaseException as error:
            self._open.__exit__(type(error), error, error.__traceback__)
            self._writer = None
            raise
        self._pose = None if poses is None else poses[-1]
        self.ticks += len(actions)
        if self._writer.length > PIECE_TICKS:
            self._finish()

    def look(self, world: World) -> None:
        """Note where the player is before a chunk, where the world tells."""
        if self._pose is None and hasattr(world, "game"):
            self._pose = np.array(world.game(0).pose, np.float64)

    def cut(self) -> None:
        """Finish the episode: play goes on from somewhere else."""
        self._finish()
        self._pose = None

    def close(self) -> None:
        """Finish the episode."""
        self._finish()

    def _begin(self, frame: np.ndarray, caption: str, world: World, facts: Facts) -> EpisodeWriter:
        self.episodes += 1
        self._number += 1
        while Path(f"{self._name}-{self._number:03}.jsonl").exists():  # recorded within this very second
            self._number += 1
        writer = EpisodeWriter(
            f"{self._name}-{self._number:03}", world=world.spec.name, seed=facts.start.seed, task=world.spec.task
        )
        self._open.enter_context(writer)
        writer.first(frame, pose=None if self._pose is None else self._pose.tolist(), caption=caption)
        return writer

    def _finish(self) -> None:
        self._writer = None
        self._open.close()
