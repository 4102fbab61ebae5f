"""What a dream starts from: a reference-world seed, an episode, one image or video, or nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.model.camera import eyes_of
from latentcraft.simulator.protocol import TICKS_PER_SECOND, WARMUP_CHUNKS, Start, WorldSpec
from latentcraft.simulator.voxel.caption import describe
from latentcraft.simulator.voxel.seam import unwrapped
from latentcraft.simulator.voxel.world import VoxelWorld


@dataclass(frozen=True)
class Context:
    """Frames and the actions that led to them, whole chunks; empty when the dream starts from nothing."""

    frames: np.ndarray
    """``uint8 (k * f, H, W, 3)``."""
    actions: np.ndarray
    """``float32 (k * f, 20)``."""
    known_actions: bool = True
    """False for videos, whose actions nobody wrote down."""
    caption: str = ""
    """What the start shows, if known."""
    eyes: np.ndarray | None = None
    """Where each frame was seen from, ``float64 (k * f, 5)``, see :mod:`latentcraft.model.camera`; None if unknown. A
    pitch that had to be guessed was five degrees off on average, and all distances with it."""


def read_context(start: Start, spec: WorldSpec) -> Context:
    """Return the context ``start`` asks for, at ``spec``'s frame size and chunk.

    Raises:
        UserError: a missing or unreadable file, too few frames, or both an episode and a media file.
    """
    if start.lead is not None and (start.seed is None or start.episode is not None or start.media is not None):
        raise UserError("a lead goes on from a seed's warm-up; give it with a seed only")
    if start.episode is not None and start.media is not None:
        raise UserError("a start takes an episode or a media file, not both")
    if start.episode is not None:
        return from_episode(Path(start.episode), start.frame, spec)
    if start.media is not None:
        return from_media(Path(start.media), start.frame, spec)
    if start.seed is not None:
        return from_seed(start.seed, spec, start.lead)
    height, width = spec.frame_size
    return Context(np.zeros((0, height, width, 3), np.uint8), noop(0), known_actions=False)


def from_seed(seed: int, spec: WorldSpec, lead: np.ndarray | None = None) -> Context:
    """Play the reference world's warm-up for ``seed`` and then ``lead``, see :class:`Start`, and return it."""
    world = VoxelWorld(1, spec.task, spec.frame_size, spec.chunk, frames="none")  # its history is drawn below
    world.reset([Start(seed=seed, lead=lead)])
    frames, actions, poses = world.history(0)
    game = world.game(0)
    caption = describe(game.biome, game.time_of_day, game.weather, task=game.task)
    return Context(frames, actions, caption=caption, eyes=eyes_of(unwrapped(poses), actions[:, BUTTON_INDEX["sneak"]]))


def from_episode(path: Path, first: int, spec: WorldSpec) -> Context:
    """Return the chunks of an episode that begin at frame ``first``."""
    from latentcraft.model.episodes import read_episode  # with codecs, which a start from a seed does without

    episode = read_episode(path, frame_size=spec.frame_size)
    span = WARMUP_CHUNKS * spec.chunk
    if len(episode) < spec.chunk:
        raise UserError(f"episode {path} has only {len(episode)} frames and a chunk {spec.chunk}; choose a longer one")
    if not 0 <= first <= len(episode) - spec.chunk:
        raise UserError(f"episode {path} has {len(episode)} frames; frame must be 0 to {len(episode) - spec.chunk}")
    last = min(first + span, len(episode))
    last -= (last - first) % spec.chunk
    frames, actions = episode.frames[first:last], episode.actions[first:last]
    eyes = None
    if episode.poses is not None:
        eyes = eyes_of(episode.poses[first:last], actions[:, BUTTON_INDEX["sneak"]])
    return Context(frames, actions, caption=episode.caption, eyes=eyes)


def from_media(path: Path, first: int, spec: WorldSpec) -> Context:
    """Return a video's frames from ``first`` on, or one image held still for a chunk."""
    frames = read_media(path, first, WARMUP_CHUNKS * spec.chunk, spec.frame_size)
    still = len(frames) == 1
    if len(frames) < spec.chunk:
        # Hold the last frame, which is what standing still looks like.
        frames = np.concatenate([frames, np.repeat(frames[-1:], spec.chunk - len(frames), 0)])
    whole = len(frames) - len(frames) % spec.chunk
    return Context(frames[:whole], noop(whole), known_actions=still)


def read_media(path: Path, first: int, count: int, frame_size: tuple[int, int]) -> np.ndarray:
    """Read up to ``count`` frames of an image or video, resized, ``uint8 (k, H, W, 3)``.

    Args:
        path: anything FFmpeg decodes.
        first: tick (1/20 s) to begin at.
        count: ticks to read; a video of another frame rate is sampled at 20 frames a second.
        frame_size: (H, W).

    Raises:
        UserError: missing, not an image or video, or shorter than ``first``.
    """
    import av

    if first < 0:
        raise UserError(f"frame must be 0 or more, got {first}")
    if not path.is_file():
        raise UserError(f"no file {path}; give an image or a video")
    height, width = frame_size
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            tick = 0  # the next tick to show; a frame is shown from its time on
            for frame in container.decode(video=0):
                if (frame.time or 0.0) * TICKS_PER_SECOND < tick - 0.5:
                    continue
                tick += 1
                if tick > first:
                    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
                    frames.append(picture.to_ndarray())
                if len(frames) == count:
                    break
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"{path} is not a readable image or video ({error}); give a PNG, JPEG or MP4") from error
    if not frames:
        raise UserError(f"{path} has no frame {first}; choose an earlier one")
    return np.stack(frames)
