"""What a configuration costs before anything of it exists: FLOPs and bytes, counted on tensors without memory.

Counted are matrix products and convolutions (``torch.utils.flop_counter``; a multiplication and an addition are two),
which is nearly all there is. Not counted: elementwise work, the compiled loops of the memory of places, the body net,
and in training the critic, the net's own rollouts, the bootstrap's teacher and Muon's products.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latentcraft.model.actions import ACTION_SIZE
from latentcraft.model.attention import KVCache
from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder
from latentcraft.model.checkpoint import WorldModel
from latentcraft.model.depth import DepthNet
from latentcraft.model.dit import SpacetimeDiT, before
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.memory import Memory
from latentcraft.model.motion import Motion
from latentcraft.model.optimizer import MasterOptimizer
from latentcraft.model.sampler import commit, denoise
from latentcraft.model.train.config import TrainConfig
from latentcraft.model.train.dynamics import NOT_MATRICES

SHARDS = 8
"""Processes between which a large training is thought to be shared."""


@dataclass(frozen=True)
class Sizes:
    """Of one configuration at its frame size."""

    parameters: int
    """Of the transformer."""
    other_parameters: int
    """Of the nets beside it: autoencoder, motion, depth."""
    dream_flops: float
    """Of a dreamed frame that is shown: guess, denoising, commitment and decoding of a chunk over its frames."""
    transformer_flops: float
    """The transformer's part of that."""
    train_flops: float
    """Of an ordinary step of the transformer, forward and backward."""
    train_frames: int
    """Frames of the clips in a step."""
    train_bytes: int
    """Of the transformer's training without its activations: the network, its average (as a network and in fp32), fp32
    masters, gradients of both kinds, states of both optimisers."""
    shard_bytes: int
    """The same of each of :data:`SHARDS` processes that shard."""
    play_bytes: int
    """Of one played world: weights of all nets, the cache, the memory of places."""
    cache_bytes: int
    """Of its cache of keys and values, at full context."""


class FullCache(KVCache):
    """A cache that takes no more, since tensors without memory cannot say where they would put it."""

    def append(self, keys: Tensor, values: Tensor, latents: Tensor) -> None:
        """Do nothing."""


@contextmanager
def counting(flops: dict[str, float], name: str) -> Iterator[None]:
    """Add what is done inside to ``flops[name]``."""
    with FlopCounterMode(display=False) as counter:
        yield
    flops[name] = flops.get(name, 0.0) + counter.get_total_flops()


def bytes_of(*parts: Tensor) -> int:
    """Return the size of tensors."""
    return sum(part.numel() * part.element_size() for part in parts)


def training_bytes(network: nn.Module, optimizer: MasterOptimizer, processes: int = 1) -> int:
    """Return the size of what each of ``processes`` that shard keeps of a network: see :attr:`Sizes.train_bytes`."""
    parameters = list(network.parameters())
    masters = list(optimizer.masters.values())
    muon, adamw = (
        [] if part is None else [value for group in part.param_groups for value in group["params"]]
        for part in (optimizer.muon, optimizer.adamw)
    )
    # The network, its average and its gradients; masters, their average and their gradients; momenta.
    state = 3 * bytes_of(*masters) + bytes_of(*muon) + 2 * bytes_of(*adamw)
    return 3 * bytes_of(*parameters) + state // processes


@torch.no_grad()
def dream_flops(
    autoencoder: Autoencoder,
    motion: Motion,
    depth: DepthNet | None,
    dit: SpacetimeDiT,
    frame_size: tuple[int, int],
    steps: int,
) -> dict[str, float]:
    """Count one dreamed chunk of one world at full context, part by part."""
    config, flops = dit.config, dict[str, float]()
    device, dtype = dit.final.weight.device, dit.final.weight.dtype
    grid = (frame_size[0] // DOWNSAMPLING, frame_size[1] // DOWNSAMPLING)
    chunk = torch.zeros(1, config.chunk, *grid, config.channels, device=device)
    actions = torch.zeros(1, config.chunk, ACTION_SIZE, device=device)
    cache = FullCache(**vars(dit.empty_cache(1, grid)))
    with counting(flops, "guess"):
        picture = torch.zeros(1, 3, *frame_size, device=device, dtype=dtype)  # the last one, decoded when it was shown
        if depth is not None:
            depth.distances(picture.float(), torch.zeros(1, device=device))
        guess = Guesser(autoencoder, motion)(chunk, actions, picture=picture)
    with counting(flops, "transformer"):
        latents = denoise(dit, cache, guess, chunk, actions, steps=steps)
        commit(dit, cache, guess, latents, chunk, actions)
    with counting(flops, "decoding"):
        autoencoder.decode_pixels(latents.flatten(0, 1))
    return flops


def frame_flops(world: WorldModel, steps: int) -> float:
    """Return what a dreamed frame of a loaded world costs; see :attr:`Sizes.dream_flops`."""
    with torch.device("meta"):
        dit, autoencoder = SpacetimeDiT(world.dit.config), Autoencoder(world.autoencoder.config)
        motion, depth = Motion(world.motion.config), None
        if world.scene is not None:
            depth = DepthNet(world.scene.depth.config)
    return sum(dream_flops(autoencoder, motion, depth, dit, world.frame_size, steps).values()) / dit.config.chunk


def train_flops(config: TrainConfig, autoencoder: Autoencoder, motion: Motion, dit: SpacetimeDiT) -> float:
    """Count one ordinary step, see :attr:`Sizes.train_flops`."""
    stage, model, flops = config.dynamics, dit.config, dict[str, float]()
    device = dit.final.weight.device
    b, g, t = stage.batch, 1 + stage.copies, model.context
    height, width = (side // DOWNSAMPLING for side in config.frame_size)
    clips = torch.zeros(b, t, model.chunk, height, width, model.channels, device=device)
    actions = torch.zeros(b, t, model.chunk, ACTION_SIZE, device=device)
    with counting(flops, "step"):
        guess: Guess = Guesser(autoencoder, motion).along(before(clips), actions)
        prediction = dit(
            clips[:, None].expand(-1, g, -1, -1, -1, -1, -1), torch.zeros(b, g, t, device=device),
            torch.zeros(b, g, t, dtype=torch.int64, device=device), actions, past=before(clips), guess=guess,
        )  # fmt: skip
        outcomes = prediction.outcomes
        (prediction.latents.sum() + outcomes.reward.float().sum() + outcomes.terminated.float().sum()).backward()
    return flops["step"]


def sizes(config: TrainConfig, *, steps: int = 4, dtype: torch.dtype = torch.bfloat16) -> Sizes:
    """Count what ``config`` costs.

    Args:
        config: of a training run, such as a preset's.
        steps: denoising steps of a dreamed chunk.
        dtype: number format of the networks.
    """
    with torch.device("meta"):
        dit = SpacetimeDiT(config.dynamics.model)
        autoencoder, motion = Autoencoder(config.autoencoder.model), Motion(config.motion.model)
        depth = DepthNet(config.depth.model)
    optimizer = MasterOptimizer(dit, config.dynamics.optimizer, not_matrices=NOT_MATRICES)
    dit.to(dtype)
    others = [net.to(dtype).requires_grad_(False) for net in (autoencoder, motion, depth)]
    training = training_bytes(dit, optimizer)
    step = train_flops(config, autoencoder, motion, dit)
    dit.requires_grad_(False)
    dream = dream_flops(autoencoder, motion, depth, dit, config.frame_size, steps)
    chunk, context = dit.config.chunk, dit.config.context
    grid = (config.frame_size[0] // DOWNSAMPLING, config.frame_size[1] // DOWNSAMPLING)
    cache = bytes_of(*vars(dit.empty_cache(1, grid)).values())
    memory = Memory(config.frame_size, field_of_view=config.depth.model.field_of_view)
    places = sum(part.nbytes for part in (memory.pictures, memory.distances, memory.own, memory.eyes))
    nets = bytes_of(*(part for net in (dit, *others) for part in net.parameters()))
    return Sizes(
        parameters=sum(part.numel() for part in dit.parameters()),
        other_parameters=sum(part.numel() for net in others for part in net.parameters()),
        dream_flops=sum(dream.values()) / chunk, transformer_flops=dream["transformer"] / chunk, train_flops=step,
        train_frames=config.dynamics.batch * context * chunk, train_bytes=training,
        shard_bytes=training_bytes(dit, optimizer, SHARDS), play_bytes=nets + cache + places, cache_bytes=cache,
    )  # fmt: skip
