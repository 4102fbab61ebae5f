"""Stage 2: every episode's frames become latents, one safetensors file an episode; resumable, since each is atomic.

A file names the autoencoder it was made with and the video it was made from; where either has changed since, the
episode is encoded anew, so that a transformer never learns latents its decoder does not speak.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model import camera
from latentcraft.model.actions import BUTTON_INDEX, CHANGES
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.checkpoint import digest
from latentcraft.model.episodes import DEPTH, Episode, read_all
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train.ranks import ALONE, Ranks

LAYOUT = "3"
"""Of the files; the first had no changes, the second did not say where."""
BATCH = 32
"""Frames encoded at once."""


@torch.no_grad()
def encode_episodes(
    autoencoder: Autoencoder, paths: list[Path], out: Path, frame_size: tuple[int, int], *, device: str = "cpu",
    ranks: Ranks = ALONE,
) -> list[Path]:  # fmt: skip
    """Encode the episodes at ``paths`` into ``out/NAME.safetensors``; those there and still current are kept.

    Several processes share the episodes and wait for each other at the end.

    Each file holds ``latents`` ``float16 (frames, h, w, c)``, ``actions``, ``rewards``, ``terminated``, ``task``,
    ``eyes``, ``changes`` ``float32 (frames, 2)`` and ``spots`` ``float32 (frames, 2, 3)``, NaN where they are not
    known.

    Returns:
        The files of all readable episodes, sorted.

    Raises:
        UserError: not one episode was readable, or the disk is full.
    """
    targets = {path: out / f"{path.stem}.safetensors" for path in paths}
    codec = digest(autoencoder)
    # Shared before looking, since the others may be writing already.
    share = paths[ranks.mine]
    missing = [path for path in share if stamp(targets[path]) != origin(path, codec)]
    done = len(share) - len(missing)
    with tqdm(
        total=len(share), initial=done, desc="encode", unit="episode", mininterval=2.0, disable=not ranks.first
    ) as bar:
        for path, episode in read_all(missing, frame_size=frame_size):
            frames = torch.from_numpy(episode.frames)
            latents = [autoencoder.encode(part.to(device)).half().cpu() for part in frames.split(BATCH)]
            tensors = {
                "latents": torch.cat(latents),
                "actions": torch.from_numpy(episode.actions).contiguous(),
                "rewards": torch.from_numpy(episode.rewards).float().contiguous(),
                "terminated": torch.from_numpy(episode.terminated).contiguous(),
                "task": torch.tensor([TASK_INDEX.get(episode.task, 0)]),
                "eyes": torch.from_numpy(eyes_of(episode)),
                "changes": torch.from_numpy(changes_of(episode)),
                "spots": torch.from_numpy(episode.spots),
            }
            with replacing(targets[path]) as temporary:
                temporary.write_bytes(save(tensors, origin(path, codec)))
            bar.update()
    ranks.wait()
    files = sorted(target for target in targets.values() if target.exists())
    if not files:
        raise UserError("no readable episode to encode; record some with `latentcraft record`")
    return files


def eyes_of(episode: Episode) -> np.ndarray:
    """Return where each frame was seen from, ``float64 (t, 5)``; NaN if unknown."""
    if episode.poses is None:
        return np.full((len(episode), 5), np.nan)
    return camera.eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])


def changes_of(episode: Episode) -> np.ndarray:
    """Return :data:`latentcraft.model.actions.CHANGES` of each frame, ``float32 (t, 2)``; NaN if unknown."""
    if episode.changes is None:
        return np.full((len(episode), len(CHANGES)), np.nan, np.float32)
    return episode.changes.astype(np.float32)


def origin(path: Path, codec: str) -> dict[str, str]:
    """Return what an encoded episode at ``path`` depends on: the video, the distances, the autoencoder's digest, and
    the layout of what is written.
    """
    video = path.with_suffix(".mp4")
    status = video.stat() if video.exists() else None
    measured = path.with_suffix(DEPTH).exists()
    return {
        "autoencoder": codec, "video": f"{status.st_size}-{status.st_mtime_ns}" if status else "missing",
        "distances": str(measured), "layout": LAYOUT,
    }  # fmt: skip


def stamp(target: Path) -> dict[str, str] | None:
    """Return the origin written into an encoded episode, None if there is no readable one."""
    try:
        with safe_open(str(target), "pt") as file:
            return file.metadata()
    except (SafetensorError, OSError):
        return None
