"""Counted sizes scale as they must and equal the tensors of a real run."""

from dataclasses import replace

import pytest
import torch

from latentcraft.configs.compose import compose_config
from latentcraft.model.checkpoint import WorldModel, load_checkpoint
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.optimizer import MasterOptimizer
from latentcraft.model.train.config import TrainConfig
from latentcraft.model.train.dynamics import NOT_MATRICES
from latentcraft.model.train.sizes import bytes_of, sizes, training_bytes
from latentcraft.simulator.dream.world import DreamWorld


@pytest.fixture(scope="module")
def smoke() -> TrainConfig:
    config = compose_config("train", ["data=x", "out=y", "preset=smoke", "frame_size=[32,48]"])
    assert isinstance(config, TrainConfig)
    return config


def reshaped(config: TrainConfig, **shape: int) -> TrainConfig:
    return replace(config, dynamics=replace(config.dynamics, model=replace(config.dynamics.model, **shape)))


def test_flops_grow_with_the_square_of_the_width_and_with_the_steps(smoke: TrainConfig):
    plain = reshaped(smoke, refiner_width=0)
    narrow, wide = (sizes(reshaped(plain, width=width)) for width in (512, 1024))
    # All but attention, the embeddings and the outputs is square in the width.
    assert 3.6 < wide.transformer_flops / narrow.transformer_flops < 4.1
    assert wide.dream_flops - wide.transformer_flops == narrow.dream_flops - narrow.transformer_flops
    assert wide.cache_bytes > 1.9 * narrow.cache_bytes
    one, two, four = (sizes(plain, steps=steps).transformer_flops for steps in (1, 2, 4))
    assert four - two == 2 * (two - one)  # every step costs the same; the commitment is left over
    assert 0 < 2 * one - two < one


def test_training_costs_three_times_a_forward_pass_of_every_copy(smoke: TrainConfig):
    one = reshaped(smoke, refiner_width=0, width=512)
    two = replace(one, dynamics=replace(one.dynamics, batch=2 * one.dynamics.batch))
    first, second = sizes(one), sizes(two)
    assert second.train_flops == 2 * first.train_flops
    assert second.train_frames == 2 * first.train_frames
    forward = sizes(one, steps=1).transformer_flops / 2 * first.train_frames  # a step and a commitment
    copies = 1 + one.dynamics.copies
    # Plus the guess; less gradients of what is not trained.
    assert 2.5 * copies < first.train_flops / forward < 3.6 * copies


def test_the_cache_is_as_large_as_that_of_a_real_dream(smoke: TrainConfig, tiny_checkpoint):
    model: WorldModel = load_checkpoint(tiny_checkpoint, dtype=torch.float32)
    config = replace(
        smoke, dynamics=replace(smoke.dynamics, model=model.dit.config),
        autoencoder=replace(smoke.autoencoder, model=model.autoencoder.config),
        motion=replace(smoke.motion, model=model.motion.config),
    )  # fmt: skip
    assert model.scene is not None
    config = replace(config, depth=replace(smoke.depth, model=model.scene.config.depth))
    counted = sizes(config, dtype=torch.float32)
    world = DreamWorld(checkpoint=model)
    assert counted.cache_bytes == bytes_of(*vars(world._cache).values())
    assert counted.parameters == sum(part.numel() for part in model.dit.parameters())
    place = world._places[0]
    assert place is not None
    memory = sum(part.nbytes for part in (place.memory.pictures, place.memory.distances, place.memory.own,
                                          place.memory.eyes))  # fmt: skip
    nets = [model.dit, model.autoencoder, model.motion, model.scene.depth]
    assert counted.play_bytes == sum(bytes_of(*net.parameters()) for net in nets) + memory + counted.cache_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_memory_is_that_of_a_real_optimizer(smoke: TrainConfig, dtype: torch.dtype):
    counted = sizes(smoke, dtype=dtype).train_bytes
    dit = SpacetimeDiT(smoke.dynamics.model)
    optimizer = MasterOptimizer(dit, smoke.dynamics.optimizer, not_matrices=NOT_MATRICES)
    dit.to(dtype)
    assert training_bytes(dit, optimizer) == counted
    shared = counted - training_bytes(dit, optimizer, 2)  # half of what can be shared out
    assert shared == (counted - 3 * bytes_of(*dit.parameters())) // 2
    for parameter in dit.parameters():
        parameter.grad = torch.ones_like(parameter)
    gradients = [parameter.grad for parameter in dit.parameters() if parameter.grad is not None]
    network, gradient_bytes = bytes_of(*dit.parameters()), bytes_of(*gradients)
    optimizer.step(0, 10)
    state = optimizer.state_dict()
    kept = [*state["masters"].values(), *state["average"].values()]
    for part in ("muon", "adamw"):
        for entry in state[part]["state"].values():
            kept += [value for name, value in entry.items() if name != "step"]
    masters = bytes_of(*state["masters"].values())  # their gradients are as large
    assert 2 * network + gradient_bytes + bytes_of(*kept) + masters == counted
