"""The motion guess: looking up a moved picture, learning which way the actions move it, and how far to trust it."""

from dataclasses import replace

import torch

from latentcraft.model.actions import NUM_BUTTONS, YAW
from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
from latentcraft.model.guess import Guess, surprise
from latentcraft.model.guesser import Guesser
from latentcraft.model.motion import Motion, MotionConfig, sample
from latentcraft.model.objective import motion_loss
from latentcraft.model.place import NEWS
from latentcraft.model.train.motion import photometric_loss

TINY = MotionConfig(chunk=2, channels=8, width=16, fine_width=16, dilations=(1, 2))


def codec() -> Autoencoder:
    torch.manual_seed(0)
    config = AutoencoderConfig(
        encoder_widths=(8, 16), encoder_depths=(1, 1), decoder_widths=(8, 16), decoder_depths=(1, 1)
    )
    return Autoencoder(config).requires_grad_(False).eval()


def test_a_flow_of_whole_pixels_moves_the_picture_by_them():
    picture = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 2, 4, 6, 2)
    flow[:, 1, ..., 1] = 2 / 4  # each pixel shows what was two to its right; a height is four pixels
    moved, inside = sample(picture, flow)
    torch.testing.assert_close(moved[:, 0], picture)
    torch.testing.assert_close(moved[:, 1, ..., :4], picture[..., 2:])
    assert inside[:, 0].all() and inside[:, 1, :, :4].all()
    assert not inside[:, 1, :, 4:].any()  # nothing is known of what comes into view


def test_a_fresh_net_guesses_that_nothing_moves():
    autoencoder = codec()
    guess = Guesser(autoencoder, Motion(TINY))
    past = Autoencoder.normalise(torch.randn(2, 3, 2, 4, 6, 8))  # three chunks of two clips
    guessed = guess.along(past, torch.randn(2, 3, 2, 20))
    assert guessed.mean.shape == past.shape
    assert guessed.spread.shape == (2, 3, 2, 4, 6, 1)
    seen = autoencoder.decode_pixels(past[:, :, -1].flatten(0, 1)).clamp(-1, 1)
    again = autoencoder.encode_pixels(seen).unflatten(0, (2, 3))[:, :, None]
    still = Autoencoder.normalise(torch.lerp(again, past[:, :, -1:], torch.sigmoid(torch.tensor(-2.0))))
    correlation = torch.sqrt(1 - guessed.spread.square())
    torch.testing.assert_close(guessed.mean, correlation * still.expand_as(past), rtol=1e-3, atol=1e-3)
    assert 0.8 < correlation.mean() < 0.9


def test_without_a_past_the_guess_is_a_standard_normal():
    guess = Guesser(codec(), Motion(TINY))
    past = torch.zeros(2, 2, 4, 6, 8)
    past[1] = Autoencoder.normalise(torch.randn(2, 4, 6, 8))
    guessed = guess(past, torch.randn(2, 2, 20))
    assert not guessed.mean[0].any()
    assert (guessed.spread[0] == 1).all()
    assert guessed.mean[1].any()


def awake() -> Guesser:
    """Return a guesser whose guesses depend on everything; a fresh one has zero outputs."""
    autoencoder, motion = codec(), Motion(TINY)
    for parameter in motion.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return Guesser(autoencoder, motion)


def test_hidden_actions_do_not_matter_and_shown_ones_do():
    guess, past = awake(), Autoencoder.normalise(torch.randn(1, 2, 4, 6, 8))
    one, other = torch.zeros(1, 2, 20), torch.ones(1, 2, 20)
    assert torch.equal(guess(past, one, torch.tensor([False])).mean, guess(past, other, torch.tensor([False])).mean)
    assert not torch.allclose(guess(past, one).mean, guess(past, other).mean)


def test_hidden_actions_are_told_from_none_at_all():
    guess, past = awake(), Autoencoder.normalise(torch.randn(1, 2, 4, 6, 8))
    none = torch.zeros(1, 2, 20)
    assert not torch.allclose(guess(past, none).mean, guess(past, none, torch.tensor([False])).mean)


def test_what_stands_still_is_learned_to_stay_as_it_is():
    torch.manual_seed(0)
    motion = Motion(TINY)
    optimizer = torch.optim.AdamW(motion.parameters(), lr=5e-3)
    hidden, there = torch.zeros(16, 16, 4, 4), torch.ones(16, dtype=torch.bool)
    told = torch.zeros(16, TINY.chunk * (NUM_BUTTONS + 4) + 1)
    for _ in range(150):
        last = Autoencoder.normalise(torch.randn(16, 4, 4, 8))
        found = Autoencoder.normalise(last[:, None] + 0.5 * torch.randn(16, 2, 4, 4, 8))  # decoded and encoded again
        guess = motion.judged(found, last, torch.zeros(16, 2, 4, 4, 4), hidden, told, there)
        optimizer.zero_grad()
        motion_loss(guess, last[:, None].expand_as(found)).backward()
        optimizer.step()
    missed = (guess.mean - last[:, None]).square().mean().item()
    assert missed < 0.25 * (found - last[:, None]).square().mean().item()


def test_the_correlation_is_learned_from_the_likelihood_alone():
    torch.manual_seed(0)
    motion = Motion(TINY)
    optimizer = torch.optim.AdamW(motion.parameters(), lr=5e-3)
    hidden, seen, there = torch.zeros(16, 16, 4, 4), torch.ones(16, 2, 4, 4, 4), torch.ones(16, dtype=torch.bool)
    told = torch.zeros(16, TINY.chunk * (NUM_BUTTONS + 4) + 1)
    for _ in range(150):
        found = Autoencoder.normalise(torch.randn(16, 2, 4, 4, 8))
        target = 0.5 * found + 0.75**0.5 * torch.randn(16, 2, 4, 4, 8)
        guess = motion.judged(found, found[:, 0], seen, hidden, told, there)
        optimizer.zero_grad()
        motion_loss(guess, target).backward()
        optimizer.step()
    assert abs(guess.spread.mean().item() - 0.75**0.5) < 0.06


def test_it_learns_which_way_an_action_moves_the_picture():
    torch.manual_seed(0)
    motion = Motion(TINY)
    optimizer = torch.optim.AdamW(motion.parameters(), lr=2e-3)

    def loss() -> torch.Tensor:
        picture = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 6), (32, 48), mode="bilinear") * 2 - 1
        actions = torch.zeros(8, 2, 20)
        actions[..., YAW] = 10 * torch.randint(-1, 2, (8, 1))
        flow = torch.zeros(8, 2, 32, 48, 2)
        flow[..., 1] = actions[..., YAW, None, None] / 80  # an eighth of the height for ten degrees
        target, _ = sample(picture, flow)
        found = motion.find_flow(picture, torch.zeros(8, 4, 6, 8), actions, torch.ones(8, dtype=torch.bool))
        return photometric_loss(*(lambda moved, inside: (moved, target, inside))(*sample(picture, found.flow)))

    before = torch.stack([loss() for _ in range(10)]).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    after = torch.stack([loss() for _ in range(10)]).mean().item()
    assert after < 0.5 * before


def test_news_is_what_differs_from_what_was_there_though_the_judge_foresaw_it():
    before, after = Autoencoder.normalise(
        torch.randn(2, 1, 4, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    ).unbind(0)
    spread = torch.full((1, 4, 4, 6, 1), 0.5)
    foreseen = Guess.of_nothing(after)._replace(mean=after, spread=spread, carried=before)
    assert (surprise(after, foreseen) > 1).float().mean() > 0.9  # unit vectors that have nothing to do with each other
    assert not surprise(before, foreseen).any()
    still = (after - before).square().mean(-1) / 0.25
    torch.testing.assert_close(surprise(after, foreseen), still)
    vague = foreseen._replace(spread=torch.full_like(spread, 0.9), carried=(1 - 0.9**2) ** 0.5 * before)
    assert (surprise(after, vague) > NEWS).float().mean() > 0.7
    assert (surprise(before, vague) < NEWS).all()


def test_further_layers_of_the_judge_begin_as_if_they_were_not_there_and_learn_where_the_hand_is():
    torch.manual_seed(0)
    plain = Motion(TINY)
    torch.nn.init.normal_(plain.verdict.weight, std=0.1)
    deep = Motion(replace(TINY, judge_dilations=(1, 2)))
    deep.load_state_dict(plain.state_dict(), strict=False)
    told = torch.zeros(16, TINY.chunk * (NUM_BUTTONS + 4) + 1)
    told[:8, 0] = 1  # half of the hands do something
    last = Autoencoder.normalise(torch.randn(16, 6, 10, 8))
    found, seen = last[:, None].expand(16, 2, 6, 10, 8), torch.ones(16, 2, 6, 10, 4)
    given = found, last, seen, torch.zeros(16, 16, 6, 10), told, torch.ones(16, dtype=torch.bool)
    torch.testing.assert_close(plain.judged(*given), deep.judged(*given), equal_nan=True)  # there are no cells
    target = found.clone()
    target[:8, :, 2:4, 4:6] = Autoencoder.normalise(torch.randn(8, 2, 2, 2, 8))
    optimizer = torch.optim.AdamW(deep.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        motion_loss(deep.judged(*given), target).backward()
        optimizer.step()
    spread = deep.judged(*given).spread[..., 0].mean(1)
    assert spread[:8, 2:4, 4:6].mean() > 2 * spread[8:, 2:4, 4:6].mean()
    assert spread[:8, 2:4, 4:6].mean() > 2 * spread[:8, 0].mean()
