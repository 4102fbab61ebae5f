"""How fast this machine trains the shipped transformer: a few real optimiser steps on random latents."""

import time
from pathlib import Path

import torch

from latentcraft.model.actions import ACTION_SIZE
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.latents import LatentDataset
from latentcraft.model.motion import Motion
from latentcraft.model.precision import fast_dtype
from latentcraft.model.train.config import TrainConfig
from latentcraft.model.train.dynamics import DynamicsStage, DynamicsStageConfig
from latentcraft.model.train.sizes import train_flops


def random_dataset(frames: int, grid: tuple[int, int], channels: int) -> LatentDataset:
    """Make an encoded data set of noise; what a step costs does not depend on what it learns."""
    return LatentDataset(
        latents=torch.randn(frames, *grid, channels).half(),
        actions=torch.zeros(frames, ACTION_SIZE),
        rewards=torch.zeros(frames),
        terminated=torch.zeros(frames, dtype=torch.bool),
        task=torch.zeros(frames, dtype=torch.int64),
        eyes=torch.full((frames, 5), torch.nan, dtype=torch.float64),
        changes=torch.full((frames, 2), torch.nan),
        spots=torch.full((frames, 2, 3), torch.nan),
        spans=torch.tensor([[0, frames]]),
        events=torch.zeros(0, 2, dtype=torch.int64),
        deeds=torch.zeros(0, 2, dtype=torch.int64),
    )


def training_speed(*, steps: int = 6, compile: bool = False) -> dict[str, float]:
    """Time ``steps`` optimiser steps of the ``cpu`` preset's transformer.

    Args:
        steps: timed steps, after one that warms up; none of them trains the larger step sizes.
        compile: with ``torch.compile``, whose first step takes minutes and is not counted.

    Returns:
        ``step_seconds`` (median), ``frames_per_second`` (frames of distinct clips), ``noised_frames_per_second``
        (frames that carry loss: every clip is noised several times), ``parameters``, ``step_flops`` (see
        :attr:`latentcraft.model.train.sizes.Sizes.train_flops`) and ``loading_share`` (of a step, that drawing its
        clips from the encoded episodes takes).
    """
    config = DynamicsStageConfig(compile=compile, bootstrap_share=0.0)
    model = config.model
    clip = model.context * model.chunk
    dtype = fast_dtype()
    data = random_dataset(4 * clip, (12, 20), model.channels)
    stage = DynamicsStage(config, data, data, Autoencoder().to(dtype), Motion().to(dtype), seed=0, dtype=dtype)
    stage.train_step(0, 1000)
    times = []
    for step in range(1, steps + 1):
        began = time.perf_counter()
        stage.train_step(step, 1000)
        times.append(time.perf_counter() - began)
    median = sorted(times)[len(times) // 2]
    began, generator = time.perf_counter(), torch.Generator().manual_seed(0)
    for _ in range(steps):
        data.sample(config.batch, model.context, model.chunk, generator)
    loading = (time.perf_counter() - began) / steps
    with torch.device("meta"):
        nets = Autoencoder(), Motion(), SpacetimeDiT(model)
    run = TrainConfig(data=Path(), out=Path(), dynamics=config)
    frames = config.batch * clip / median
    return {
        "step_seconds": median,
        "frames_per_second": frames,
        "noised_frames_per_second": frames * config.copies,
        "step_flops": train_flops(run, *nets),
        "loading_share": loading / median,
        "parameters": float(sum(parameter.numel() for parameter in stage.network.parameters())),
    }
