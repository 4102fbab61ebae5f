import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from latentcraft.simulator.fidelity import metrics
from latentcraft.simulator.fidelity.features import Features
from latentcraft.simulator.fidelity.metrics import Basis, Moments, clip_features, frechet, frechet_figure, jackknife


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_equal_frames_are_perfect():
    frames = noise(2, 32, 48, 3)
    assert metrics.psnr(frames, frames).tolist() == [metrics.MAX_PSNR] * 2
    assert np.allclose(metrics.ssim(frames, frames), 1)


def test_psnr_of_a_known_error():
    frames = np.full((2, 16, 16, 3), 100, np.uint8)
    shown = frames.copy()
    shown[1] += 10
    assert metrics.psnr(shown, frames)[1] == pytest.approx(10 * np.log10(255**2 / 100), abs=1e-4)
    assert metrics.psnr(shown, frames)[0] == metrics.MAX_PSNR


def test_ssim_falls_with_noise_and_shift():
    smooth = np.repeat(np.linspace(40, 200, 48, dtype=np.uint8)[None, None, :, None], 32, 1).repeat(3, 3)
    picture = np.clip(smooth + 30 * np.sin(np.arange(48) * 0.8)[None, None, :, None], 0, 255).astype(np.uint8)
    shifted = np.roll(picture, 4, axis=2)
    slightly = np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    assert 1 > metrics.ssim(slightly, picture)[0] > metrics.ssim(shifted, picture)[0]


def test_ssim_is_the_same_for_one_frame_and_in_a_batch():
    one, two = noise(40, 16, 32, 3), noise(40, 16, 32, 3, seed=1)
    assert metrics.ssim(one, two)[39] == pytest.approx(metrics.ssim(one[39:], two[39:])[0], abs=1e-6)


def test_perceptual_distance_compares_directions_place_by_place():
    first = torch.zeros(2, 2, 1, 2)
    first[:, 0] = 3.0  # channel 0 everywhere
    second = first.clone()
    second[1, :, 0, 0] = torch.tensor([0.0, 7.0])  # frame 1, one place of two: the other channel, whatever its size
    pooled = torch.zeros(2, 1)
    distance = metrics.perceptual(Features((first,), pooled), Features((second,), pooled))
    assert distance == pytest.approx([0.0, 1.0], abs=1e-5)  # |e0 - e1|^2 = 2 at half of the places


def test_clip_features_of_a_still_and_of_a_moving_clip():
    still = np.ones((1, 4, 2))
    assert clip_features(still).tolist() == [[1, 1, 0, 0, 0, 0]]
    moving = np.arange(4.0).reshape(1, 4, 1)
    assert clip_features(moving).tolist() == [[1.5, 3, 1]]
    assert clip_features(moving[:, ::-1]).tolist() == [[1.5, -3, 1]], "the direction of time is seen"


def test_frechet_distance_of_known_gaussians():
    samples = np.random.default_rng(0).normal(size=(4000, 3))
    one = Moments.of(samples)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet(one, Moments.of(samples + [1, 2, 0])) == pytest.approx(5, rel=1e-6)
    # Twice the spread: the covariances differ by (2 - 1)^2 of each variance.
    variance = samples.var(0, ddof=1).sum()
    assert frechet(one, Moments.of(2 * samples - samples.mean(0))) == pytest.approx(variance, rel=1e-6)


def test_frechet_distance_is_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Itself(torch.nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(50, 6)), rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)) + 0.3
    theirs = FrechetInceptionDistance(feature=Itself()).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(one), real=True)
    theirs.update(torch.from_numpy(two), real=False)
    assert frechet(Moments.of(one), Moments.of(two)) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_moments_add_up():
    samples = np.random.default_rng(0).normal(size=(10, 3))
    joined = Moments.sum([Moments.of(samples[:3]), Moments.of(samples[3:])])
    mean, covariance = joined.gaussian()
    assert mean == pytest.approx(samples.mean(0)) and covariance == pytest.approx(np.cov(samples.T))


def test_frechet_figure_counts_games_and_covers_the_value():
    rng = np.random.default_rng(0)
    true = [rng.normal(size=(20, 4)) + rng.normal(size=4) for _ in range(6)]
    same = frechet_figure(true, true)
    assert (same.value, same.low, same.count) == (pytest.approx(0, abs=1e-9), 0, 6)
    shifted = frechet_figure([game + 1 for game in true], true)
    assert shifted.value == pytest.approx(4) and shifted.low <= 4 <= shifted.high
    assert np.isnan(frechet_figure(true[:1], true[:1]).high), "one game has no interval"


def test_jackknife_of_a_mean_is_students_interval():
    samples = [1.0, 2.0, 4.0, 4.0, 7.0]
    figure = jackknife(samples, lambda kept: float(np.mean(kept)))
    half = 2.776 * np.std(samples, ddof=1) / np.sqrt(5)
    assert figure.value == pytest.approx(3.6) and figure.high - 3.6 == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize("freedom, quantile", [(3, 3.182), (7, 2.365), (15, 2.131), (100, 1.984)])
def test_student_quantile(freedom: int, quantile: float):
    assert metrics.student_quantile(freedom) == pytest.approx(quantile, rel=0.01)


def test_a_basis_keeps_what_varies_and_the_length_of_the_rest():
    rng = np.random.default_rng(0)
    features = np.zeros((50, 6))
    features[:, 0], features[:, 1] = rng.normal(0, 5, 50), rng.normal(0, 1, 50)
    basis = Basis.fit(features, dimensions=3)
    described = basis.project(features)
    assert described.shape == (50, 3) and np.allclose(described[:, -1], 0, atol=1e-5)
    odd = features.copy()
    odd[:, 5] += 2  # a direction the reference never takes
    assert np.allclose(basis.project(odd)[:, -1], 2 * basis.scale[5])
    assert np.allclose(basis.project(odd)[:, :-1], described[:, :-1])


def test_parts_of_the_features_weigh_alike():
    rng = np.random.default_rng(0)
    large, small = rng.normal(0, 100, (400, 2)), rng.normal(0, 0.01, (400, 2))
    described = Basis.fit(np.concatenate([large, small], 1), parts=2, dimensions=5).project(
        np.concatenate([large, small], 1)
    )
    assert described.var(0).sum() == pytest.approx(2, rel=0.01), "each part has a total variance of 1"


def test_few_samples_make_a_small_basis():
    features = np.random.default_rng(0).normal(size=(4, 10))
    assert Basis.fit(features).project(features).shape == (4, 5)
