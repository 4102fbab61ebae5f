"""The motion guess: looking up a moved picture, and learning which way the actions move it."""

import torch

from latentcraft.model.motion import Motion, sample


def test_a_flow_of_whole_positions_moves_the_picture_by_them():
    picture = torch.randn(1, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 2, 4, 6, 2)
    flow[:, 1, ..., 1] = 2 / 4  # each position shows what was two to its right; a height is four positions
    moved = sample(picture, flow)
    torch.testing.assert_close(moved[:, 0], picture)
    torch.testing.assert_close(moved[:, 1, :, :4], picture[:, :, 2:])
    assert not moved[:, 1, :, 4:].any()  # nothing is known of what comes into view


def test_a_fresh_net_guesses_that_nothing_moves():
    motion = Motion(chunk=2, channels=3, action_features=5)
    motion.init_weights()
    past = torch.randn(2, 2, 4, 6, 3)
    guess = motion(past, torch.randn(2, 5))
    assert guess.mean.shape == (2, 2, 4, 6, 3)
    assert guess.spread.shape == (2, 2, 4, 6, 1)
    still = past[:, -1:] * torch.rsqrt(past[:, -1:].square().mean(-1, keepdim=True) + 1e-2)
    correlation = torch.sqrt(1 - guess.spread.square())
    torch.testing.assert_close(guess.mean, correlation * still.expand(-1, 2, -1, -1, -1))
    assert 0.8 < correlation.mean() < 0.9


def test_without_a_past_the_guess_is_a_standard_normal():
    motion = Motion(chunk=2, channels=3, action_features=5)
    motion.init_weights()
    guess = motion(torch.zeros(1, 2, 4, 6, 3), torch.randn(1, 5))
    assert not guess.mean.any()
    assert (guess.spread == 1).all()


def test_the_correlation_is_learned_from_the_error_alone():
    torch.manual_seed(0)
    motion = Motion(chunk=1, channels=8, action_features=1)
    motion.init_weights()
    optimizer = torch.optim.AdamW(motion.parameters(), lr=5e-3)
    for _ in range(150):
        picture = torch.randn(16, 1, 1, 8).expand(-1, 4, 4, -1)  # the same wherever one looks: flow does not matter
        target = 0.5 * picture + 0.75**0.5 * torch.randn(16, 4, 4, 8)
        guess = motion(picture[:, None], torch.zeros(16, 1))
        optimizer.zero_grad()
        (guess.mean[:, 0] - target).square().mean().backward()
        optimizer.step()
    assert abs(guess.spread.mean().item() - 0.75**0.5) < 0.06


def test_it_learns_which_way_an_action_moves_the_picture():
    torch.manual_seed(0)
    motion = Motion(chunk=1, channels=3, action_features=1)
    motion.init_weights()
    optimizer = torch.optim.AdamW(motion.parameters(), lr=2e-3)

    def loss() -> torch.Tensor:
        coarse = torch.randn(8, 3, 3, 4)
        picture = torch.nn.functional.interpolate(coarse, (6, 8), mode="bilinear").permute(0, 2, 3, 1)
        action = torch.randint(-1, 2, (8, 1)).float()
        flow = (action / 6).view(8, 1, 1, 1, 1) * torch.tensor([0.0, 1.0])  # one position a unit of action
        target = sample(picture, flow.expand(8, 1, 6, 8, 2))
        guess = motion(picture[:, None], action)
        return (guess.mean - target).square().mean()

    before = torch.stack([loss() for _ in range(10)]).mean().item()
    for _ in range(300):
        optimizer.zero_grad()
        error = loss()
        error.backward()
        optimizer.step()
    after = torch.stack([loss() for _ in range(10)]).mean().item()
    assert after < 0.3 * before
