"""The bank: pictures of recorded places are chosen, once all that looks at them has learned; see model/bank.py."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.bank import SCALE, Bank, BankConfig, look_of
from latentcraft.model.checkpoint import digest
from latentcraft.model.depth import DepthNet
from latentcraft.model.latents import LatentDataset
from latentcraft.model.tasks import TASK_INDEX

STRIDE = 8
"""Frames between those that are looked at."""
AROUND = 10.0
"""Metres between a place's middle and its pictures, along each axis."""
APART = 0.45
"""Least difference between two pictures of a place: of 4 m, of about 40 degrees of heading or of pitch that is 1."""
LOOKED_AT = 3
"""Pictures that are looked at for each that is chosen."""
REACH = 4.6
"""Metres: as far as a hand reaches, so that the middle of the view has no outline round the block aimed at."""
ROOM = 1.2
"""Metres that three quarters of a picture are away at least: a face against a wall is no place."""


@dataclass(frozen=True)
class BankStageConfig:
    """What is kept of the recorded episodes for a world to recall."""

    frames: int = 0
    """Pictures at most, of 2.2 kB each at 96x160; 0 makes a world without a bank."""
    place: int = 8
    """Pictures of one place at most, all of one episode."""
    least: int = 4
    """Places with fewer are left out."""
    tasks: tuple[str, ...] = ("free", "chop", "explore")
    """Tasks whose episodes show the plain world. Marks to build on and beacons belong to a game, not to a place."""

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in TASK_INDEX]
        if unknown:
            raise UserError(f"bank.tasks: unknown task {unknown[0]!r}; known: {', '.join(TASK_INDEX)}")
        if self.frames < 0 or not 1 <= self.least <= self.place:
            raise UserError("bank.frames must not be negative, and bank.place at least bank.least, which is 1 or more")


@torch.no_grad()
def fill_bank(
    config: BankStageConfig, data: LatentDataset, autoencoder: Autoencoder, depth: DepthNet, *, seed: int,
    device: str = "cpu", quiet: bool = True,
) -> Bank | None:  # fmt: skip
    """Choose the pictures of places from ``data``, a function of ``seed``; None where no episode shows a place."""
    rng = np.random.default_rng([seed, 0xBA])
    plain = [TASK_INDEX[task] for task in config.tasks]
    spans = data.spans[torch.isin(data.task[data.spans[:, 0]], torch.tensor(plain))].tolist()
    latents, eyes, places, looks = [], [], [], []
    count = 0
    with tqdm(total=config.frames, desc="bank", unit="frame", mininterval=2.0, disable=quiet) as bar:
        for place, number in enumerate(rng.permutation(len(spans))):
            first, frames = spans[number]
            index = candidates(data.eyes[first : first + frames : STRIDE].numpy(), config, rng)
            if len(index) < config.least:
                continue
            index = first + STRIDE * index
            encoded, seen_from = data.latents[index].float(), data.eyes[index]
            pixels = autoencoder.decode_pixels(encoded.to(device)).float().clamp(-1, 1)
            distance = depth.distances(pixels, seen_from[:, 4].float().to(device)).cpu()
            good = np.flatnonzero(shows_a_place(distance).numpy())
            good = good[spread_out(seen_from[good].numpy(), config.place)][: config.frames - count]
            if len(good) < min(config.least, config.frames - count):
                continue
            chosen = torch.from_numpy(good)
            pictures = Autoencoder.to_frames(pixels[chosen]).cpu()
            look, _ = look_of(pictures, distance[chosen], distance[chosen] > 0)
            latents.append((encoded[chosen] * SCALE).round().clamp(-127, 127).to(torch.int8))
            eyes.append(seen_from[chosen].float())
            places.append(torch.full((len(chosen),), place, dtype=torch.int32))
            looks.append((look * 255).round().clamp(0, 255).to(torch.uint8))
            count += len(chosen)
            bar.update(len(chosen))
            if count >= config.frames:
                break
    if not count:
        return None
    _, *grid, channels = latents[0].shape
    bank = Bank(BankConfig(count, (grid[0], grid[1]), channels))
    for name, parts in (("latents", latents), ("eyes", eyes), ("places", places), ("looks", looks)):
        getattr(bank, name).copy_(torch.cat(parts))
    return bank.eval()


def candidates(eyes: np.ndarray, config: BankStageConfig, rng: np.random.Generator) -> np.ndarray:
    """Return which of the frames of an episode, seen from ``eyes (t, 5)``, to look at for one place."""
    known = np.flatnonzero(~np.isnan(eyes).any(1))
    if not len(known):
        return known
    middle = eyes[rng.choice(known)]
    near = known[(np.abs(eyes[known, :3] - middle[:3]) < AROUND).all(1)]
    return near[spread_out(eyes[near], LOOKED_AT * config.place)]


def spread_out(eyes: np.ndarray, count: int) -> np.ndarray:
    """Return up to ``count`` of ``eyes (k, 5)`` as far from one another as can be, one by one, the most usual first."""
    if not len(eyes):
        return np.zeros(0, np.int64)
    heading = np.radians(eyes[:, 3])
    where = np.column_stack(
        [eyes[:, :3] / 4, 1.5 * np.cos(heading), 1.5 * np.sin(heading), eyes[:, 4] / 40]
    )  # fmt: skip
    chosen = [int(np.abs(where - where.mean(0)).sum(1).argmin())]
    far = np.linalg.norm(where - where[chosen[0]], axis=1)
    while len(chosen) < count and far.max() >= APART:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(where - where[chosen[-1]], axis=1))
    return np.array(chosen)


def shows_a_place(distance: Tensor) -> Tensor:
    """Return which pictures with ``distance (k, H, W)`` show something but what is at hand, ``bool (k,)``."""
    height, width = distance.shape[1:]
    middle = distance[:, int(0.4 * height) : int(0.6 * height), int(0.44 * width) : int(0.56 * width)]
    return (middle.flatten(1).median(1).values > REACH) & (distance.flatten(1).quantile(0.25, dim=1) > ROOM)


def kept_bank(
    config: BankStageConfig, data: LatentDataset, autoencoder: Autoencoder, depth: DepthNet, path: Path, *, seed: int,
    device: str = "cpu", quiet: bool = True,
) -> Bank | None:  # fmt: skip
    """Return what :func:`fill_bank` does, read from ``path`` where it was written by the same of everything."""
    origin = {
        "of": f"{config} {seed} {len(data.latents)} {len(data.spans)} {digest(autoencoder)} {digest(depth)}",
    }  # fmt: skip
    try:
        with safe_open(str(path), "pt") as file:
            if file.metadata() == origin:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                count, *grid, channels = state["latents"].shape
                bank = Bank(BankConfig(count, (grid[0], grid[1]), channels))
                bank.load_state_dict(state)
                return bank.eval()
    except (SafetensorError, OSError):
        pass  # there is none yet, or it was torn
    found = fill_bank(config, data, autoencoder, depth, seed=seed, device=device, quiet=quiet)
    if found is not None:
        with replacing(path) as temporary:
            temporary.write_bytes(save({name: part.contiguous() for name, part in found.state_dict().items()}, origin))
    return found
