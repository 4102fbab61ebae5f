"""Shortcut forcing on cases with known answers."""

import torch

from latentcraft.model.dit import REWARD_BINS, STEP_SIZES, Outcomes
from latentcraft.model.objective import (
    add_noise,
    bootstrap_target,
    denoising_loss,
    expected_reward,
    outcome_loss,
    sample_levels,
    two_hot,
    velocity,
)

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


def test_loss_weight_is_the_ramp():
    target = torch.zeros(SHAPE)
    for tau, weight in ((0.0, 0.1), (0.5, 0.55), (1.0, 1.0)):
        loss = denoising_loss(target + 2, target, torch.full((2, 1, 3), tau))
        torch.testing.assert_close(loss, torch.tensor(4 * weight))


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
