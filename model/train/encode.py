"""Stage 2: every episode's frames become latents, one safetensors file an episode; resumable, since each is atomic."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.episodes import read_all
from latentcraft.model.tasks import TASK_INDEX

BATCH = 32
"""Frames encoded at once."""


@torch.no_grad()
def encode_episodes(
    autoencoder: Autoencoder, paths: list[Path], out: Path, frame_size: tuple[int, int], *, device: str = "cpu"
) -> list[Path]:
    """Encode the episodes at ``paths`` into ``out/NAME.safetensors``; those already there are kept.

    Each file holds ``latents`` ``float16 (frames, h, w, c)``, ``actions``, ``rewards``, ``terminated`` and ``task``.

    Returns:
        The files of all readable episodes, sorted.

    Raises:
        UserError: not one episode was readable, or the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    targets = {path: out / f"{path.stem}.safetensors" for path in paths}
    missing = [path for path, target in targets.items() if not target.exists()]
    done = len(paths) - len(missing)
    with tqdm(total=len(paths), initial=done, desc="encode", unit="episode", mininterval=2.0) as bar:
        for path, episode in read_all(missing, frame_size=frame_size):
            frames = torch.from_numpy(episode.frames)
            latents = [autoencoder.encode(part.to(device)).half().cpu() for part in frames.split(BATCH)]
            tensors = {
                "latents": torch.cat(latents),
                "actions": torch.from_numpy(episode.actions).contiguous(),
                "rewards": torch.from_numpy(episode.rewards).float().contiguous(),
                "terminated": torch.from_numpy(episode.terminated).contiguous(),
                "task": torch.tensor([TASK_INDEX.get(episode.task, 0)]),
            }
            with replacing(targets[path]) as temporary:
                save_file(tensors, temporary)
            bar.update()
    files = sorted(target for target in targets.values() if target.exists())
    if not files:
        raise UserError("no readable episode to encode; record some with `latentcraft record`")
    return files
