"""The transformer's promises: causality, the cache, and agreement of training with streaming."""

from dataclasses import replace

import torch

from latentcraft.model.dit import DiTConfig, SpacetimeDiT, place_features

CONFIG = DiTConfig(width=64, depth=6, head_size=32, context=8, refiner_width=16)


def build(seed: int = 0, config: DiTConfig = CONFIG) -> SpacetimeDiT:
    """Build a net whose outputs depend on everything (a fresh one starts with zero outputs)."""
    torch.manual_seed(seed)
    dit = SpacetimeDiT(config).requires_grad_(False).eval()
    for parameter in dit.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    return dit


def arguments(*, b: int = 2, g: int = 1, t: int = 6, h: int = 4, w: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(b, g, t, 4, h, w, 8, generator=generator)
    signal = torch.rand(b, g, t, generator=generator)
    step = torch.randint(0, 4, (b, g, t), generator=generator)
    actions = torch.randn(b, t, 4, 20, generator=generator)
    return latents, signal, step, actions


def test_streaming_with_the_cache_equals_the_full_causal_forward():
    dit = build()
    latents, signal, step, actions = arguments()
    full = dit(latents, signal, step, actions)
    cache = dit.empty_cache(2, (4, 6))
    for i in range(latents.shape[2]):
        one = dit(latents[:, :, i : i + 1], signal[:, :, i : i + 1], step[:, :, i : i + 1], actions[:, i : i + 1],
                  cache=cache)  # fmt: skip
        cache.append(one.keys, one.values, latents[:, 0, i])
        torch.testing.assert_close(one.latents[:, :, 0], full.latents[:, :, i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.outcomes.reward[:, 0], full.outcomes.reward[:, i], rtol=1e-4, atol=1e-4)


def test_a_net_that_is_told_places_begins_as_one_that_is_not_and_tells_the_middle_from_elsewhere():
    torch.manual_seed(0)
    plain, told = SpacetimeDiT(CONFIG), SpacetimeDiT(replace(CONFIG, place=True))
    told.load_state_dict(plain.state_dict(), strict=False)
    arguments_ = arguments(h=12, w=20)
    for net in (plain, told):
        torch.nn.init.normal_(net.final.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = plain(*arguments_).latents
        assert torch.equal(told(*arguments_).latents, before)  # the new weights are zeros
        assert told.embed_place is not None
        told.embed_place.weight[:, -1] = 1.0
        moved = (told(*arguments_).latents - before).abs().mean((0, 1, 2, 3, 6))
    assert moved.sum() > 0

    near = place_features(6, 10, torch.device("cpu"))[:, -1].view(6, 10)
    torch.testing.assert_close(near, near.flip(0, 1))  # as far from the middle on all sides
    assert near.argmax() in (24, 25, 34, 35) and near.min() == near[0, 0]  # the four tokens that meet in it
    wide = place_features(6, 20, torch.device("cpu")).view(6, 20, -1)
    torch.testing.assert_close(wide[:, 5:15], place_features(6, 10, torch.device("cpu")).view(6, 10, -1))


def test_the_ring_forgets_the_oldest_chunk_and_keeps_its_size():
    dit = build(config=DiTConfig(width=64, depth=3, head_size=32, context=5))
    latents, signal, step, actions = arguments(b=1, t=10)
    cache = dit.empty_cache(1, (4, 6))
    memory = cache.keys.data_ptr(), cache.keys.shape
    for i in range(9):
        one = dit(*(part[:, :, i : i + 1] for part in (latents, signal, step)), actions[:, i : i + 1], cache=cache)
        cache.append(one.keys, one.values, latents[:, 0, i])
    assert (cache.keys.data_ptr(), cache.keys.shape) == memory
    last = dit(*(part[:, :, 9:10] for part in (latents, signal, step)), actions[:, 9:10], cache=cache)
    # With a single temporal layer, chunk 9 sees chunks 5 to 8, and through chunk 5 the latents of chunk 4: a clip of
    # these is all it can know, once its own first chunk (whose keys lack a past) is masked out.
    alone = dit(*(part[:, :, 4:10] for part in (latents, signal, step)), actions[:, 4:10])
    fresh = dit.empty_cache(1, (4, 6))
    for i in range(5, 9):
        fresh.append(alone.keys[:, :, :, i - 4 : i - 3], alone.values[:, :, :, i - 4 : i - 3], latents[:, 0, i])
    fresh.length += 1  # the clip began at chunk 4, so keys were rotated one position further
    again = dit(*(part[:, :, 9:10] for part in (latents, signal, step)), actions[:, 9:10], cache=fresh)
    torch.testing.assert_close(last.latents, again.latents, rtol=1e-4, atol=1e-4)


def test_a_later_action_or_frame_changes_no_earlier_chunk():
    dit = build()
    latents, signal, step, actions = arguments()
    before = dit(latents, signal, step, actions).latents
    actions[:, 4] += 1
    latents[:, :, 4] += 1
    after = dit(latents, signal, step, actions).latents
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4], after[:, :, 4])
    assert not torch.equal(before[:, :, 5], after[:, :, 5])


def test_noised_copies_see_only_the_clean_past_as_in_streaming():
    dit = build()
    latents, signal, step, actions = arguments(g=3)
    trained = dit(latents, signal, step, actions).latents
    cache = dit.empty_cache(2, (4, 6))
    for i in range(latents.shape[2]):
        for copy in (1, 2):
            one = dit(*(part[:, copy : copy + 1, i : i + 1] for part in (latents, signal, step)), actions[:, i : i + 1],
                      cache=cache)  # fmt: skip
            torch.testing.assert_close(one.latents[:, 0, 0], trained[:, copy, i], rtol=1e-4, atol=1e-4)
        clean = dit(*(part[:, :1, i : i + 1] for part in (latents, signal, step)), actions[:, i : i + 1], cache=cache)
        cache.append(clean.keys, clean.values, latents[:, 0, i])


def test_worlds_of_a_batch_do_not_see_each_other_and_may_differ_in_length():
    dit = build()
    latents, signal, step, actions = arguments()
    cache = dit.empty_cache(2, (4, 6))
    first = dit(*(part[1:, :, :1] for part in (latents, signal, step)), actions[1:, :1], cache=cache.view(1))
    cache.view(1).append(first.keys, first.values, latents[1:, 0, 0])
    assert cache.length.tolist() == [0, 1]
    second = dit(*(part[:, :, 1:2] for part in (latents, signal, step)), actions[:, 1:2], cache=cache).latents
    fresh = dit(*(part[:1, :, 1:2] for part in (latents, signal, step)), actions[:1, 1:2]).latents
    torch.testing.assert_close(second[:1], fresh, rtol=1e-4, atol=1e-4)
    full = dit(*(part[1:, :, :2] for part in (latents, signal, step)), actions[1:, :2]).latents
    torch.testing.assert_close(second[1:, :, 0], full[:, :, 1], rtol=1e-4, atol=1e-4)


def test_other_frame_sizes_run_through_the_same_weights():
    dit = build()
    for h, w in ((4, 6), (10, 8), (2, 14)):
        assert dit(*arguments(h=h, w=w)).latents.shape == (2, 1, 6, 4, h, w, 8)


def test_hidden_actions_do_not_matter_and_known_ones_do():
    dit = build()
    latents, signal, step, actions = arguments()
    hidden = torch.tensor([False, True])
    one = dit(latents, signal, step, actions, has_actions=hidden).latents
    two = dit(latents, signal, step, actions + 1, has_actions=hidden).latents
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])
