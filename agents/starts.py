"""From the keys ``seed``, ``episode``, ``media`` and ``frame`` of a command to where its games begin."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import Start


def make_starts(
    world: str,
    seed: int | Sequence[int] | None,
    *,
    episode: Path | None = None,
    media: Path | None = None,
    frame: int = 0,
) -> list[Start]:
    """Return one start for each seed, before any world is built.

    Args:
        world: the world's name; all but ``dream`` start from seeds only.
        seed: reference-world seed, or several; None for nothing. With ``episode`` or ``media`` it seeds the noise.
        episode: an episode to start from.
        media: an image or a video to start from.
        frame: first frame of the episode or video.

    Raises:
        UserError: keys that do not go together, a seed below zero, no such media file.
    """
    seeds = [seed] if isinstance(seed, int) else None if seed is None else list(seed)
    if seeds is not None and (not seeds or min(seeds) < 0):
        raise UserError(f"seed must be a whole number from 0 up, or a list of them, got {seed!r}")
    if world != "dream":
        for key, given in (("episode", episode is not None), ("media", media is not None), ("seed=null", seed is None)):
            if given:
                raise UserError(f"{key} starts a dream only; leave it out or take world=dream, not world={world}")
    if episode is not None and media is not None:
        raise UserError("give episode or media, not both")
    if frame < 0 or (frame and episode is None and media is None):
        raise UserError(f"frame={frame} must be 0 or more and counts the frames of an episode or of a video in media")
    if media is not None and not media.is_file():
        raise UserError(f"no file {media}; media takes an image or a video")
    if episode is None and media is None and seeds is not None:
        return [Start(seed=each) for each in seeds]
    return [Start(noise_seed=each, episode=episode, media=media, frame=frame) for each in seeds or [0]]


def next_start(start: Start) -> Start:
    """Return the start of the next game: the next seed, or the same picture dreamed on with the next noise."""
    if start.seed is not None:
        return replace(start, seed=start.seed + 1)
    return replace(start, noise_seed=(start.noise_seed or 0) + 1)


def start_name(start: Start) -> str:
    """Return a start in a few words, for labels."""
    if start.seed is not None:
        return f"seed {start.seed}"
    source = start.episode or start.media
    return f"{source.stem if source else 'nothing'}, noise {start.noise_seed or 0}"


def start_from_file(path: Path) -> Start:
    """Return the start a file stands for: an episode if its jsonl is there, else an image or a video.

    It is not read here; a world that resets to it says what is wrong with it.
    """
    if path.suffix == ".jsonl" or (path.suffix == ".mp4" and path.with_suffix(".jsonl").is_file()):
        return Start(noise_seed=0, episode=path)
    return Start(noise_seed=0, media=path)
