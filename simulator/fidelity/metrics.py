"""Distances between pictures and between sets of pictures.

Of two frames: PSNR and SSIM as torchmetrics has them, and a perceptual distance in the features of an image network.
Of two sets: the Fréchet distance between Gaussians fitted to features (FID, arXiv 1706.08500; over clips as FVD, arXiv
1812.01717). torchmetrics keeps no moments of parts of a set, which the intervals need, so the distance itself is here;
a test holds it against torchmetrics'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from latentcraft.simulator.fidelity.features import BATCH, Features
from latentcraft.simulator.fidelity.figures import Figure

MAX_PSNR = 100.0
"""What equal frames score, dB, instead of infinity; one level in one value of a 96x160 frame is 94.8 dB."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luminance (ITU-R BT.601); SSIM is defined on luminance."""
DIMENSIONS = 32
"""Numbers that describe a frame or a clip in a Fréchet distance. A covariance of all 1,280 features would need far more
frames than an evaluation shows."""
NORMAL_QUANTILE = 1.959964
"""97.5 % of a standard normal."""

T = TypeVar("T")


def psnr(shown: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each frame ``uint8 (n, H, W, 3)`` in dB, ``(n,)``."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    one, two = (torch.from_numpy(np.ascontiguousarray(frames)).float() for frames in (shown, true))
    ratio = peak_signal_noise_ratio(one, two, data_range=255.0, dim=(1, 2, 3), reduction="none")
    return ratio.clamp(max=MAX_PSNR).double().numpy()


def ssim(shown: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the structural similarity of the luminance of each frame ``uint8 (n, H, W, 3)``, ``(n,)``, 1 if equal."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    weights = torch.tensor(LUMA)
    parts = []
    for at in range(0, len(shown), BATCH):
        pair = [torch.from_numpy(np.ascontiguousarray(frames[at : at + BATCH])) for frames in (shown, true)]
        one, two = ((frames.float() @ weights)[:, None] for frames in pair)
        values = structural_similarity_index_measure(one, two, data_range=255.0, reduction="none")
        assert isinstance(values, torch.Tensor)
        parts.append(values.reshape(-1))
    return torch.cat(parts).double().numpy()


def perceptual(shown: Features, true: Features) -> np.ndarray:
    """Return the perceptual distance of each frame, ``(n,)``, 0 if equal.

    As LPIPS without its learned weights (arXiv 1801.03924): features of each place scaled to unit length, squared
    differences summed over channels, averaged over places, summed over scales.
    """
    total = torch.zeros(len(shown.pooled))
    for one, two in zip(shown.maps, true.maps, strict=True):
        total += (_unit(one) - _unit(two)).square().sum(1).mean((1, 2))
    return total.double().numpy()


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.norm(dim=1, keepdim=True) + 1e-6)


def clip_features(pooled: np.ndarray) -> np.ndarray:
    """Describe clips by ``(n, k, d)`` features of their ``k`` frames: ``(n, 3 d)``.

    What is seen (the mean), where it is going (last frame less first), and how much it moves or flickers on the way
    (mean size of the changes from frame to frame).
    """
    changes = np.diff(pooled, axis=1)
    return np.concatenate([pooled.mean(1), pooled[:, -1] - pooled[:, 0], np.abs(changes).mean(1)], axis=1)


@dataclass(frozen=True)
class Basis:
    """Few numbers for many features: the principal axes of the *reference's* features, and the length of the rest.

    The same reference frames give the same axes to every world that is compared. What a world shows that real frames
    never vary in (noise, mush) would be lost on these axes; it is what the last number holds.
    """

    mean: np.ndarray
    """``(d,)``."""
    axes: np.ndarray
    """``(d, k)``, orthonormal."""
    scale: np.ndarray
    """``(d,)``: gives each of the equal ``parts`` of the features the same total variance."""

    @classmethod
    def fit(cls, features: np.ndarray, *, parts: int = 1, dimensions: int = DIMENSIONS) -> "Basis":
        """Find the axes of ``features (n, d)``; fewer than ``dimensions`` where there are few samples."""
        features = features.astype(np.float64)
        mean = features.mean(0)
        variances = features.var(0).reshape(parts, -1).sum(1)
        scale = np.repeat(1 / np.sqrt(np.maximum(variances, 1e-12)), features.shape[1] // parts)
        axes = np.linalg.svd((features - mean) * scale, full_matrices=False)[2][: dimensions - 1].T
        return cls(mean, axes, scale)

    def project(self, features: np.ndarray) -> np.ndarray:
        """Describe ``features (n, d)`` by ``(n, k + 1)`` numbers."""
        centred = (features.astype(np.float64) - self.mean) * self.scale
        along = centred @ self.axes
        rest = np.sqrt(np.maximum(np.square(centred).sum(1) - np.square(along).sum(1), 0))
        return np.concatenate([along, rest[:, None]], axis=1)


@dataclass(frozen=True)
class Moments:
    """Sums over a set of samples; those of two sets add up to those of both."""

    count: int
    total: np.ndarray
    """``(d,)``."""
    outer: np.ndarray
    """``(d, d)``: sum of the samples' outer products."""

    @classmethod
    def of(cls, samples: np.ndarray) -> "Moments":
        """Sum over samples ``(n, d)``."""
        return cls(len(samples), samples.sum(0), samples.T @ samples)

    @classmethod
    def sum(cls, parts: Sequence["Moments"]) -> "Moments":
        """Join sets."""
        total, outer = (np.sum([getattr(part, name) for part in parts], axis=0) for name in ("total", "outer"))
        return cls(sum(part.count for part in parts), total, outer)

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean ``(d,)`` and covariance ``(d, d)``."""
        mean = self.total / self.count
        return mean, (self.outer - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)


def frechet(one: Moments, two: Moments) -> float:
    """Return the squared Fréchet distance between the Gaussians with these moments, 0 if equal."""
    (mean_1, cov_1), (mean_2, cov_2) = one.gaussian(), two.gaussian()
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # The trace of (cov_1 cov_2)^(1/2), by way of a symmetric matrix with the same eigenvalues.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_2 @ root), 0)).sum()
    return float(max(np.square(mean_1 - mean_2).sum() + np.trace(cov_1) + np.trace(cov_2) - 2 * cross, 0.0))


def frechet_figure(shown: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> Figure:
    """Return the Fréchet distance between the samples of several games in two worlds, with its interval.

    Args:
        shown: for each game, samples ``(n, d)`` in the world under test.
        true: the same games in the reference world.

    The interval is a jackknife's over games: a bootstrap repeats games, and sets with repeats lie further apart than
    the sets themselves.
    """
    pairs = [(Moments.of(one), Moments.of(two)) for one, two in zip(shown, true, strict=True)]
    return jackknife(pairs, lambda kept: frechet(Moments.sum([a for a, _ in kept]), Moments.sum([b for _, b in kept])))


def jackknife(samples: Sequence[T], statistic: Callable[[Sequence[T]], float]) -> Figure:
    """Return ``statistic`` of the samples with a 95 % interval from its values with each sample left out in turn."""
    n = len(samples)
    value = statistic(samples)
    if n < 2:
        return Figure(value, float("nan"), float("nan"), n)
    without = np.array([statistic([*samples[:i], *samples[i + 1 :]]) for i in range(n)])
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    half = float(student_quantile(n - 1) * error)
    return Figure(value, max(value - half, 0.0), value + half, n)


def student_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 1 % from 3 degrees of freedom on (Cornish-Fisher expansion)."""
    z, v = NORMAL_QUANTILE, float(freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3
