"""Streaming: what the noise changes, and what is remembered of a finished chunk."""

import pytest
import torch

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.dit import DiTConfig, SpacetimeDiT
from latentcraft.model.guess import Guess
from latentcraft.model.sampler import commit, denoise

CHUNK = (1, 4, 4, 6, 8)
NOTHING = Guess.of_nothing(torch.zeros(CHUNK))


@pytest.fixture
def dit() -> SpacetimeDiT:
    """Return a net whose outputs depend on everything; a fresh one returns its guess."""
    torch.manual_seed(0)
    dit = SpacetimeDiT(DiTConfig(width=32, depth=3, head_size=16, context=5)).requires_grad_(False).eval()
    for parameter in dit.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    return dit


def test_without_temperature_the_noise_does_not_matter_and_with_it_it_does(dit: SpacetimeDiT):
    cache, actions = dit.empty_cache(1, CHUNK[2:4]), torch.zeros(1, 4, 20)
    past = torch.randn(CHUNK)
    guess = NOTHING._replace(mean=0.6 * past, spread=torch.full((*CHUNK[:-1], 1), 0.8), carried=0.6 * past)
    commit(dit, cache, NOTHING, past, torch.randn(CHUNK), actions)
    cold = [denoise(dit, cache, guess, torch.randn(CHUNK), actions, steps=2, temperature=0.0) for _ in range(2)]
    warm = [denoise(dit, cache, guess, torch.randn(CHUNK), actions, steps=2) for _ in range(2)]
    assert torch.equal(*cold)
    assert not torch.allclose(*warm)


def test_a_finished_chunk_is_remembered_as_it_is_whatever_noise_its_keys_carry(dit: SpacetimeDiT):
    actions, chunk = torch.zeros(1, 4, 20), torch.randn(CHUNK)
    caches = [dit.empty_cache(1, CHUNK[2:4]) for _ in range(2)]
    for cache in caches:
        commit(dit, cache, NOTHING, chunk, torch.randn(CHUNK), actions)
        assert torch.equal(cache.last, chunk)
    assert not torch.allclose(caches[0].keys, caches[1].keys)


def test_other_numbers_of_steps_are_refused(dit: SpacetimeDiT):
    with pytest.raises(UserError, match="steps must be one of 1, 2, 4, 8"):
        denoise(dit, dit.empty_cache(1, CHUNK[2:4]), NOTHING, torch.zeros(CHUNK), torch.zeros(1, 4, 20), steps=3)


def test_denoising_starts_from_the_guess(dit: SpacetimeDiT):
    cache, actions, still = dit.empty_cache(1, CHUNK[2:4]), torch.zeros(1, 4, 20), torch.zeros(CHUNK)
    other = NOTHING._replace(mean=torch.randn(CHUNK))
    dreams = [denoise(dit, cache, guess, still, actions, steps=1, temperature=0.0) for guess in (NOTHING, other)]
    assert not torch.allclose(*dreams)
    fresh = SpacetimeDiT(dit.config).requires_grad_(False)  # knows no better than its guess
    dream = denoise(fresh, cache, other, still, actions, steps=4, temperature=0.0)
    torch.testing.assert_close(dream, Autoencoder.normalise(other.mean), rtol=1e-4, atol=1e-4)
