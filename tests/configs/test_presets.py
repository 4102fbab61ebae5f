"""The training presets have the sizes they say, and their shapes run."""

from dataclasses import replace

import pytest
import torch

from latentcraft.configs.compose import compose_config
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.train.run import TrainConfig


def preset(name: str) -> TrainConfig:
    config = compose_config("train", ["data=x", "out=y", f"preset={name}"])
    assert isinstance(config, TrainConfig)
    return config


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("smoke", 0, 1e6), ("cpu", 10e6, 15e6), ("gpu", 150e6, 200e6), ("gpu-large", 1e9, 1.2e9)],
)
def test_a_preset_is_as_large_as_it_says(name: str, least: float, most: float):
    with torch.device("meta"):  # shapes without memory
        dit = SpacetimeDiT(preset(name).dynamics.model)
    assert least < sum(parameter.numel() for parameter in dit.parameters()) < most
    assert dit.temporal_layers >= 1


@pytest.mark.parametrize("name", ["smoke", "gpu", "gpu-large"])
def test_a_narrow_copy_of_a_preset_steps(name: str):
    shape = preset(name).dynamics.model
    dit = SpacetimeDiT(replace(shape, width=shape.head_size, context=5))
    latents = torch.randn(1, 2, 3, shape.chunk, 4, 6, shape.channels)
    prediction = dit(latents, torch.rand(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.int64), torch.zeros(1, 3, 4, 20))
    prediction.latents.square().mean().backward()
    assert prediction.latents.shape == latents.shape
    assert all(layer.qkv.weight.grad is not None for layer in dit.layers)
