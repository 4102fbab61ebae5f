"""The layers of one chunk on a CPU do what the layers do."""

import pytest
import torch

from latentcraft.model import dit as dit_module
from latentcraft.model import streamed
from latentcraft.model.attention import KVCache
from latentcraft.model.dit import DiTConfig, Prediction, SpacetimeDiT
from latentcraft.model.streamed import can_stream, packed, soften

SMALL = DiTConfig(width=32, depth=3, temporal_every=3, head_size=16, context=5, refiner_width=8, refiner_layers=1)


def net(dtype: torch.dtype) -> SpacetimeDiT:
    torch.manual_seed(0)
    dit = SpacetimeDiT(SMALL)
    for parameter in dit.parameters():  # layers begin as hardly anything
        parameter.data += 0.1 * torch.randn_like(parameter)
    return dit.to(dtype).eval()


@torch.no_grad()
def predicted(dit: SpacetimeDiT, cache: KVCache, seed: int) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    worlds = len(cache.length)
    latents = torch.randn(worlds, 1, 1, 4, 4, 6, 8, generator=generator)
    actions = torch.rand(worlds, 1, 4, 20, generator=generator)
    level = torch.full((worlds, 1, 1), 0.5), torch.zeros(worlds, 1, 1, dtype=torch.int64)
    return dit(latents, *level, actions, cache=cache)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("worlds", [1, 5])
def test_streamed_layers_predict_what_the_layers_do(dtype, near, worlds, monkeypatch):
    dit = net(dtype)
    cache = dit.empty_cache(worlds, (4, 6))
    assert can_stream(torch.zeros(1, dtype=dtype), None) is False
    for seed in range(7):  # beyond the ring of four
        fast = predicted(dit, cache, seed)
        with monkeypatch.context() as patched:
            patched.setattr(dit_module, "can_stream", lambda *_: False)
            plain = predicted(dit, cache, seed)
        for name in ("latents", "keys", "values"):
            mine, other = getattr(fast, name), getattr(plain, name)
            torch.testing.assert_close(mine.float(), other.float(), rtol=near, atol=near * float(other.float().std()))
        paid, plainly_paid = (part.outcomes.reward.float() for part in (fast, plain))
        torch.testing.assert_close(paid, plainly_paid, rtol=near, atol=near)
        cache.append(plain.keys, plain.values, torch.randn(worlds, 4, 4, 6, 8))


def test_sharing_worlds_out_among_threads_changes_no_bit(monkeypatch):
    dit = net(torch.float32)
    cache = dit.empty_cache(5, (4, 6))
    alone = predicted(dit, cache, 3).latents
    monkeypatch.setattr(streamed, "shares", lambda worlds: [(0, 2), (2, worlds)])
    assert torch.equal(predicted(dit, cache, 3).latents, alone)


def test_what_learned_is_packed_anew():
    dit = net(torch.float32)
    cache = dit.empty_cache(1, (4, 6))
    before = predicted(dit, cache, 0).latents
    layer = dit.layers[0]
    first = packed(layer)
    assert packed(layer) is first
    with torch.no_grad():
        layer.up.weight.mul_(-1)
    assert packed(layer) is not first
    assert not torch.allclose(predicted(dit, cache, 0).latents, before)


def test_where_anything_learns_the_layers_are_as_written():
    dit = net(torch.float32)
    cache = dit.empty_cache(1, (4, 6))
    with torch.enable_grad():
        assert not can_stream(torch.zeros(1), cache)
    with torch.no_grad():
        assert can_stream(torch.zeros(1), cache)
        assert not can_stream(torch.zeros(1, dtype=torch.float64), cache)


@pytest.mark.parametrize("spread", [0.1, 5.0, 300.0])
def test_softmax_is_one(spread):
    scores = spread * torch.randn(60, generator=torch.Generator().manual_seed(0))
    mine = scores.numpy().copy()
    soften(mine, torch.empty(60, dtype=torch.int32).numpy())
    torch.testing.assert_close(torch.from_numpy(mine), torch.softmax(scores.double(), 0).float(), rtol=3e-6, atol=1e-9)
