"""Reading actions back from frames: a small network that sees only pictures says which buttons were held.

- Every two neighbouring frames make one *transition*; the action that led from one to the other is what is read.
- A picture part, run once a frame at a quarter of the pixels: what is where, and how well each patch of the new frame
  fits the patches around it in the old one (a band of a cost volume). A turn of the camera is a shift of everything,
  so its size can be read off where the fit is best, which learns faster than plain convolutions over two frames.
- A time part over the transitions' features, seven ticks to either side: a walk starts slowly, an arm's swing lasts
  six ticks, and what a frame later shows tells what was pressed before. So it looks ahead, as VPT's does
  (arXiv 2206.11795), and cannot be used to play.

Half a million parameters, one megabyte. It is the instrument, not the thing measured: what it cannot read in the
reference world's own frames (see the *reference* row of a report) says nothing against a dream.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model import pretrained
from latentcraft.model.actions import BUTTONS, HOTBAR_SLOTS
from latentcraft.model.precision import fast_dtype

FORMAT = "latentcraft-inverse-1"
SHIPPED = Path(pretrained.__file__).parent / "inverse_dynamics.safetensors"
"""The network that comes with the package."""
READ_BUTTONS = BUTTONS[: len(BUTTONS) - HOTBAR_SLOTS]
"""Buttons that are read; a hotbar slot is a state of the picture more than an act."""
CAMERA_SCALE = 4.0
"""Degrees a camera output of 1 stands for: a middling turn, so that the outputs are of size 1."""
AT_ONCE = 64
"""Frames the picture part takes at a time when reading."""


@dataclass(frozen=True)
class InverseDynamicsConfig:
    """Shape of the network."""

    frame_size: tuple[int, int] = (48, 80)
    """(H, W) that frames are averaged down to, multiples of 16."""
    width: int = 36
    """Channels of the picture features of one frame, a multiple of 3."""
    matched: int = 24
    """Channels that patches are compared by."""
    reach: tuple[int, int] = (2, 7)
    """Cells (down, across) a patch is looked for to either side. A cell is 3.5 degrees at the default size: 99 % of the
    explorer's turns stay within 7 degrees down and 10 across, and a flick that leaves the band shows by that."""
    pair_width: int = 48
    """Channels where two frames have met, a multiple of 8."""
    hidden: int = 128
    """Features of a transition."""
    dilations: tuple[int, ...] = (1, 2, 4)
    """Of the time part's convolutions over three ticks each."""

    def __post_init__(self) -> None:
        assert not any(side % 16 for side in self.frame_size)


class Reading(NamedTuple):
    """What was read off ``b`` games of ``t`` ticks."""

    held: np.ndarray
    """``bool (b, t, 9)``: each button of :data:`READ_BUTTONS`."""
    camera: np.ndarray
    """``float32 (b, t, 2)``: pitch and yaw, degrees a tick."""


class PicturePart(nn.Module):
    """Two neighbouring frames to the features of what happened between them."""

    def __init__(self, config: InverseDynamicsConfig) -> None:
        super().__init__()
        self.reach = config.reach
        stem, pair, wide = config.width // 3, config.pair_width, config.pair_width * 3 // 2
        shifts = (2 * config.reach[0] + 1) * (2 * config.reach[1] + 1)
        height, width = (side // 8 for side in config.frame_size)
        self.stem = nn.Conv2d(3, stem, 3, stride=2, padding=1)
        self.scene = nn.Conv2d(stem, config.width, 3, stride=2, padding=1)
        self.match = nn.Conv2d(config.width, config.matched, 1)
        self.change = nn.Conv2d(2 * stem, config.width, 3, stride=2, padding=1)
        self.meet = nn.Conv2d(shifts + 2 * config.width, pair, 1)
        self.local = nn.Conv2d(pair, pair, 3, padding=1)
        self.down = nn.Conv2d(pair, wide, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(wide, wide, 3, padding=1)
        self.narrow = nn.Conv2d(wide, wide // 4, 1)
        self.flat = nn.Linear(wide // 4 * height * width, config.hidden)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of ``t`` transitions.

        Args:
            pixels: shrunk frames ``(b, t + 1, 3, h, w)``, -1 to 1.

        Returns:
            ``float32 (b, t, d)``, computed in the part's own number format.
        """
        b, count = pixels.shape[:2]
        fine = F.relu(self.stem(pixels.flatten(0, 1).to(self.stem.weight.dtype)))  # (b*(t+1), c, h/2, w/2)
        scene = F.relu(self.scene(fine))  # (b*(t+1), c, h/4, w/4)
        matched = F.normalize(self.match(scene), dim=1)
        fine, scene, matched = (part.unflatten(0, (b, count)) for part in (fine, scene, matched))
        fit = cost_volume(matched[:, 1:].flatten(0, 1), matched[:, :-1].flatten(0, 1), self.reach)
        change = F.relu(self.change(torch.cat([fine[:, :-1], fine[:, 1:]], 2).flatten(0, 1)))
        x = F.relu(self.meet(torch.cat([fit, change, scene[:, 1:].flatten(0, 1)], 1)))  # (b*t, c, h/4, w/4)
        x = x + F.relu(self.local(x))
        x = F.relu(self.down(x))  # (b*t, c, h/8, w/8)
        x = x + F.relu(self.deep(x))
        # Flattened, not averaged: forward and sideways steps differ in where the picture moves which way.
        return self.flat(F.relu(self.narrow(x)).flatten(1)).float().unflatten(0, (b, count - 1))


class InverseDynamics(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: InverseDynamicsConfig | None = None) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config = config or InverseDynamicsConfig()
        self.thresholds = (0.5,) * len(READ_BUTTONS)
        """Probability from which on each button counts as held; chosen after training for the best F1."""
        self.provenance: dict[str, Any] = {}
        """How it was trained and how well it reads frames it never saw."""
        self.picture = PicturePart(config)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in (*config.dilations, 1))
        self.time = nn.ModuleList(
            nn.Conv1d(config.hidden, config.hidden, 3, padding=dilation, dilation=dilation)
            for dilation in config.dilations
        )
        self.buttons = nn.Linear(config.hidden, len(READ_BUTTONS))
        self.camera = nn.Linear(config.hidden, 2)

    def fast(self) -> "InverseDynamics":
        """Put the picture part, where the time goes, into the number format this machine multiplies fastest."""
        self.picture.to(fast_dtype())
        return self

    def shrink(self, frames: Tensor) -> Tensor:
        """Turn frames ``uint8 (..., H, W, 3)`` into ``float (..., 3, h, w)``, -1 to 1, averaged down."""
        pixels = frames.flatten(0, -4).permute(0, 3, 1, 2).float() / 127.5 - 1
        return F.interpolate(pixels, self.config.frame_size, mode="area").unflatten(0, frames.shape[:-3])

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features ``(b, t, d)`` into button logits ``(b, t, 9)`` and the camera ``(b, t, 2)`` in degrees."""
        *norms, last = self.norms
        for norm, layer in zip(norms, self.time, strict=True):
            features = features + F.relu(layer(norm(features).transpose(1, 2))).transpose(1, 2)
        features = last(features)
        return self.buttons(features), self.camera(features) * CAMERA_SCALE

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Read ``t`` actions off shrunk frames ``(b, t + 1, 3, h, w)``; see :meth:`read`."""
        return self.read(self.picture(pixels))

    @torch.no_grad()
    def decide(self, features: Tensor) -> Reading:
        """Turn features ``(b, t, d)`` into actions."""
        logits, camera = self.read(features)
        return Reading((logits.sigmoid() >= torch.tensor(self.thresholds)).numpy(), camera.numpy())


def cost_volume(after: Tensor, before: Tensor, reach: tuple[int, int]) -> Tensor:
    """Return how well each cell of ``after`` fits the cells of ``before`` around the same place.

    Args:
        after: unit vectors ``(n, c, h, w)``.
        before: the same of the frame before.
        reach: (down, across) cells to either side.

    Returns:
        Dot products ``(n, shifts, h, w)``, rows of shifts from up to down, in each from left to right; 0 outside.
    """
    n, _, h, w = after.shape
    down, across = reach
    row = w + 2 * across
    padded = F.pad(before, (across, across, down, down))  # (n, c, h + 2 down, w + 2 across)
    rows = torch.stack([padded[:, :, i : i + h] for i in range(2 * down + 1)], 3)  # (n, c, h, shifts down, row)
    # Every cell with the whole row is a plain matrix product, faster than the band alone cut into small pieces.
    fit = after.permute(0, 2, 3, 1) @ rows.permute(0, 2, 1, 3, 4).flatten(3)  # (n, h, w, shifts down * row)
    fit = fit.unflatten(3, (2 * down + 1, row)).permute(0, 3, 1, 2, 4).flatten(3)  # (n, shifts down, h, w * row)
    # One more element a line moves line x by x places: the band around the diagonal becomes upright.
    band = F.pad(fit, (0, w)).unflatten(3, (w, row + 1))[..., : 2 * across + 1]  # (n, shifts down, h, w, shifts across)
    return band.permute(0, 1, 4, 2, 3).reshape(n, -1, h, w)


class Reader:
    """Reads a batch of running games chunk by chunk; keeps features, not frames."""

    def __init__(self, network: InverseDynamics) -> None:
        self.network = network
        self._last: Tensor | None = None
        self._features: list[Tensor] = []
        self._before = 0

    def start(self, frames: np.ndarray) -> None:
        """Begin with what was seen before the first action, ``uint8 (b, k, H, W, 3)``, one frame or more.

        What was done between these frames is not reported, but shows the first reported action in its course.
        """
        self._last, self._features, self._before = None, [], frames.shape[1] - 1
        self.add(frames)

    @torch.no_grad()
    def add(self, frames: np.ndarray) -> None:
        """Append the frames that actions led to, ``uint8 (b, f, H, W, 3)``."""
        pixels = self.network.shrink(torch.from_numpy(frames))
        pixels = pixels if self._last is None else torch.cat([self._last, pixels], 1)
        self._last = pixels[:, -1:]
        # A few transitions at a time: what they need then stays in the cache, which doubles the speed.
        games = max(1, AT_ONCE // pixels.shape[1])
        if pixels.shape[1] > 1:
            self._features.append(torch.cat([self.network.picture(part) for part in pixels.split(games)]))

    def features(self) -> Tensor:
        """Return the features of all reported transitions so far, ``(b, t, d)``."""
        return torch.cat(self._features, 1)[:, self._before :]

    def actions(self) -> Reading:
        """Return what was read so far, ``t`` ticks."""
        held, camera = self.network.decide(torch.cat(self._features, 1))
        return Reading(held[:, self._before :], camera[:, self._before :])


def save_inverse_dynamics(path: Path | str, network: InverseDynamics) -> None:
    """Write ``network`` atomically, weights rounded to half precision.

    Raises:
        UserError: the disk is full or the place cannot be written; what was at ``path`` stays.
    """
    tensors = {name: value.detach().to(torch.float16).contiguous() for name, value in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(network.config)),
        "thresholds": json.dumps(network.thresholds),
        "provenance": json.dumps(network.provenance),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_inverse_dynamics(path: Path | str | None = None) -> InverseDynamics:
    """Load a network (None: the shipped one) ready to read.

    Raises:
        UserError: missing, torn, or not such a network.
    """
    path = SHIPPED if path is None else Path(path)
    if not path.is_file():
        raise UserError(f"no inverse dynamics network at {path}; train one: latentcraft evaluate mode=inverse data=DIR")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is not an inverse dynamics network (its format is {metadata.get('format')!r})")
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
        read = json.loads(metadata["config"])
        shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in read.items()}
        network = InverseDynamics(InverseDynamicsConfig(**shape))
        network.load_state_dict(tensors)
        network.thresholds = tuple(json.loads(metadata["thresholds"]))
        network.provenance = json.loads(metadata["provenance"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a readable inverse dynamics network ({reason}); train it again") from error
    return network.requires_grad_(False).eval().fast()
