"""The shipped checkpoint: the right file, and a dream that does what the player does."""

import numpy as np
import pytest

from latentcraft.model.actions import YAW, noop
from latentcraft.model.checkpoint import SHIPPED, load_checkpoint
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.world import VoxelWorld

SEEDS = [HELD_OUT_SEED + offset for offset in (1, 2, 3, 5)]


@pytest.fixture(scope="module")
def dream() -> DreamWorld:
    return DreamWorld(num_worlds=len(SEEDS))


def error(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.square(one.astype(np.float64) - two.astype(np.float64)).mean())


def turning(degrees: float) -> np.ndarray:
    script = noop(len(SEEDS), 4)
    script[..., YAW] = degrees
    return script


def test_size_and_provenance():
    assert SHIPPED.stat().st_size <= 48_000_000
    provenance = load_checkpoint().provenance
    assert provenance["frames"] >= 300_000
    assert provenance["dynamics_seconds"] > 0
    assert provenance["autoencoder_seconds"] > 0


def test_a_start_looks_like_the_reference(dream: DreamWorld):
    reference = VoxelWorld(num_worlds=len(SEEDS))
    starts = [Start(seed=seed) for seed in SEEDS]
    shown, true = dream.reset(starts), reference.reset(starts)
    psnr = 10 * np.log10(255**2 / error(shown, true))
    assert psnr > 22


def test_turning_turns_the_way_the_player_turns(dream: DreamWorld):
    """After two chunks, the dream lies nearer the true frames than those of the opposite turn, on every seed's sum."""
    reference = VoxelWorld(num_worlds=len(SEEDS))
    starts = [Start(seed=seed) for seed in SEEDS]
    seen = {}
    for name, world in (("dream", dream), ("reference", reference)):
        for side in (-2.5, 2.5):
            world.reset(starts)
            seen[name, side] = np.concatenate([world.step(turning(side)).frames for _ in range(2)], axis=1)
    for side in (-2.5, 2.5):
        dreamed = seen["dream", side]
        assert error(dreamed, seen["reference", side]) < error(dreamed, seen["reference", -side])
