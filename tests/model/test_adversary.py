"""The critic: it tells dreamed from real, and what it asks for brings the dreamed nearer to the real."""

import torch

from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.dit import STEP_SIZES
from latentcraft.model.guess import Guess
from latentcraft.model.objective import sample_grid
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.train.adversary import Adversary, AdversaryConfig

QUICK = OptimizerConfig(other_lr=3e-3, warmup=1, decay_share=0.1)


def adversary(**options: float) -> Adversary:
    torch.manual_seed(0)
    config = AdversaryConfig(width=16, dilations=(1,), optimizer=QUICK, **options)
    return Adversary(config, frames=2, channels=4, dtype=torch.float32, device="cpu")


def sharp(generator: torch.Generator, k: int = 8) -> torch.Tensor:
    """Chunks of two kinds of positions, as a world of blocks has them: all +1 or all -1."""
    signs = torch.randint(0, 2, (k, 2, 4, 6, 1), generator=generator) * 2.0 - 1
    return Autoencoder.normalise(signs.expand(-1, -1, -1, -1, 4))


def test_it_learns_to_tell_a_blur_from_the_real_and_asks_for_less_of_it():
    generator = torch.Generator().manual_seed(0)
    critic = adversary()
    for step in range(60):
        real = sharp(generator)
        blur = 0.3 * torch.randn(real.shape, generator=generator)
        error = torch.randn(real.shape, generator=generator)
        guess = Guess.of_nothing(real)
        jolt = torch.randn((2 * len(real), *real.shape[1:]), generator=generator)
        lesson = critic.lesson(blur, guess, real, guess, error, step=step, steps=60, jolt=jolt)
    assert lesson.figures["critic"] < 0.3  # ln 2 = 0.69 is knowing nothing
    assert lesson.figures["critic_right"] > 0.9
    # As strong as the squared error's gradient, and downhill: following it looks more real to the critic.
    torch.testing.assert_close(lesson.gradient.norm(), error.norm(), rtol=1e-3, atol=0)
    better = blur - 0.3 * lesson.gradient * blur.norm() / lesson.gradient.norm()
    before, after = (critic.critic(Autoencoder.normalise(part), guess).mean() for part in (blur, better))
    assert after > before


def test_before_its_start_the_transformer_hears_nothing():
    generator = torch.Generator().manual_seed(0)
    critic = adversary(start=5)
    real = sharp(generator)
    guess = Guess.of_nothing(real)
    for step, heard in ((4, False), (5, True)):
        lesson = critic.lesson(
            torch.zeros_like(real) + 0.1, guess, real, guess, torch.ones_like(real), step=step, steps=10,
            jolt=torch.randn((2 * len(real), *real.shape[1:]), generator=generator),
        )  # fmt: skip
        assert bool(lesson.gradient.any()) == heard


def test_the_grid_holds_every_level_a_sampler_uses_and_often_the_last():
    signal, step = sample_grid((4000,), torch.Generator().manual_seed(0))
    size = torch.tensor(STEP_SIZES)[step]
    assert set(step.tolist()) == {0, 1, 2, 3}
    assert torch.equal(signal / size, (signal / size).round())  # whole numbers of steps from pure noise
    last = (signal + size == 1).float().mean()
    assert 0.6 < last < 0.8  # half by choice, the rest by chance
