"""Shortcut forcing on cases with known answers."""

import torch

from latentcraft.model.dit import STEP_SIZES
from latentcraft.model.guess import Guess
from latentcraft.model.objective import (
    Wear,
    add_noise,
    bootstrap_target,
    denoising_loss,
    motion_loss,
    outcome_loss,
    sample_context_levels,
    sample_levels,
    squared_error,
    velocity,
    worn,
)
from latentcraft.model.outcomes import REWARD_BINS, Outcomes, expected_reward, two_hot

SHAPE = (2, 1, 3, 4, 2, 2, 16)


def test_velocity_of_a_perfect_prediction_is_data_minus_noise():
    data, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    signal = torch.tensor([0.0, 0.25, 0.875]).expand(2, 1, 3)
    z = add_noise(data, noise, signal)
    torch.testing.assert_close(velocity(data, z, signal), data - noise, rtol=1e-3, atol=1e-4)


def test_bootstrap_target_of_a_perfect_teacher_is_the_data():
    data, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    step = torch.tensor([1, 2, 3]).expand(2, 1, 3)
    signal = torch.tensor([0.75, 0.5, 0.0]).expand(2, 1, 3)
    target = bootstrap_target(add_noise(data, noise, signal), signal, step, lambda *_: data)
    torch.testing.assert_close(target, data, rtol=1e-3, atol=1e-4)


def test_bootstrap_target_lands_where_two_half_steps_land():
    z = torch.randn(SHAPE)
    step, signal = torch.full((2, 1, 3), 2), torch.full((2, 1, 3), 0.5)  # one step of 1/2 from 0.5 lands at 1

    def teacher(latents, level, index):
        assert (index == 1).all()
        return latents * 0.3 + level[..., None, None, None, None]

    middle = z + 0.25 * velocity(teacher(z, signal, step - 1), z, signal)
    end = middle + 0.25 * velocity(teacher(middle, signal + 0.25, step - 1), middle, signal + 0.25)
    torch.testing.assert_close(bootstrap_target(z, signal, step, teacher), end)


def test_larger_steps_are_drawn_on_the_grid_where_sampling_uses_them():
    signal, step = sample_levels((1000,), 3, torch.Generator().manual_seed(0))
    size = torch.tensor(STEP_SIZES)[step]
    assert set(step.tolist()) == {1, 2, 3}
    assert torch.equal(signal % size, torch.zeros_like(signal))
    assert (signal + size <= 1).all()
    assert set(sample_levels((1000,), 1, torch.Generator().manual_seed(0))[1].tolist()) == {1}
    signal, step = sample_levels((1000,), 0, torch.Generator().manual_seed(0))
    assert not step.any()
    assert (signal < 1).all()


def test_a_fifth_of_the_contexts_is_far_noisier_than_play():
    levels, worse = sample_context_levels((2000, 3), torch.Generator().manual_seed(0))
    assert 0.15 < worse.float().mean() < 0.25
    assert levels[~worse].min() >= 0.8
    assert 0.5 <= levels[worse].min() < 0.55


def test_wear_touches_a_share_of_the_clips_and_keeps_latents_on_their_sphere():
    latents = torch.randn(400, 2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    latents = latents * torch.rsqrt(latents.square().mean(-1, keepdim=True))
    seen = worn(latents, Wear.draw(400, 8, 0.4, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(seen.square().mean(-1), torch.ones(seen.shape[:-1]), rtol=1e-3, atol=1e-3)
    same = (seen == latents).flatten(1).all(1)
    assert 0.28 < same.float().mean() < 0.44  # 0.6 without drift times 0.6 without blur
    assert torch.equal(worn(latents, Wear.draw(400, 8, 0.0, torch.Generator().manual_seed(1))), latents)


def test_the_motion_loss_is_least_at_the_correlation():
    moved, fresh = torch.randn(2, 10_000, 1, generator=torch.Generator().manual_seed(0))
    target = 0.6 * moved + 0.8 * fresh
    losses = {
        rho: motion_loss(
            Guess(rho * moved, torch.full_like(moved, (1 - rho**2) ** 0.5), moved, moved, moved, moved), target
        ).item()
        for rho in (0.4, 0.6, 0.8)
    }
    assert min(losses, key=losses.__getitem__) == 0.6


def test_loss_weight_is_the_ramp():
    target = torch.zeros(SHAPE)
    for tau, weight in ((0.0, 0.3), (0.5, 0.65), (1.0, 1.0)):
        error = torch.tensor([1.0, -1.0]).view(2, 1)  # rows cancel within a square, so coarser scales see nothing
        loss = denoising_loss(target + 2 * error[..., None], target, torch.full((2, 1, 3), tau))
        torch.testing.assert_close(loss, torch.tensor(4 * weight / 2))  # two scales fit into this grid


def test_white_noise_counts_the_same_at_every_scale_and_a_shift_more():
    noise = torch.randn(40, 2, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(noise)
    torch.testing.assert_close(squared_error(noise, zero).mean(), torch.tensor(1.0), rtol=0.05, atol=0)
    torch.testing.assert_close(squared_error(zero + 1, zero).mean(), torch.tensor((1 + 4 + 16) / 3))


def test_a_weight_multiplies_the_error_of_its_positions():
    zero = torch.zeros(1, 2, 4, 8, 8, 8)
    weight = torch.ones(1, 2, 4, 8, 8)
    weight[:, 1, :, :2, :2] = 4  # 4 of 64 positions, one of 16 squares of two; of a square of four a quarter
    error = squared_error(zero + 1, zero, weight)
    plain = torch.tensor(1 + 4 + 16) / 3
    weighed = torch.tensor(1.1875 + 4 * 1.1875 + 16 * (3 + 1.25**2) / 4) / 3
    torch.testing.assert_close(error, torch.stack([plain, weighed])[None])


def test_two_hot_keeps_the_mean_and_the_head_reads_it_back():
    rewards = torch.tensor([-1.0, -0.03, 0.0, 0.004, 0.7, 1.0, 2.0])
    hot = two_hot(rewards)
    assert (hot >= 0).all()
    torch.testing.assert_close(hot.sum(-1), torch.ones(7))
    torch.testing.assert_close(hot @ torch.tensor(REWARD_BINS), rewards)
    torch.testing.assert_close(expected_reward((hot + 1e-9).log()), rewards, rtol=1e-4, atol=1e-5)


def test_outcome_loss_ignores_what_is_not_valid():
    rewards, terminated = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.bool)
    outcomes = Outcomes(torch.zeros(1, 2, 4, len(REWARD_BINS)), torch.full((1, 2, 4), -20.0))
    outcomes.terminated[0, 1] = 20.0
    valid = torch.tensor([True, False])[None, :, None].expand(1, 2, 4)
    loss = outcome_loss(outcomes, rewards, terminated, valid)
    torch.testing.assert_close(loss, torch.tensor(len(REWARD_BINS)).float().log())
