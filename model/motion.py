"""Motion: the last picture carried to where the actions move it, the prior that denoising starts from.

In a game seen through a player's eyes most of the next frame is the present one, moved. A small convolutional net reads
the last picture and the actions and predicts, for every place of every coming frame, where in that picture to look
(spatial transformers, arXiv 1506.02025; dense flow for video prediction, arXiv 1605.07157). Nothing about cameras is
built in, so a game that scrolls or moves sprites can use it as well. It does not see earlier pictures: what a view did
last mostly tells what it does next, and a net that saw it went on turning after the hand had stopped. What has momentum
is left to the transformer.

Pictures are moved as pixels and then encoded. Latents cannot be moved as well: interpolated by half a position they
miss a quarter to a half of their variance. Under the true flow of the reference world, pixels moved by four ticks of
walking and encoded miss 0.15 of the latents' variance, and by four ticks of turning 0.1.

The moved picture is the mean and what it misses the spread of the noise that denoising starts from, in place of a
standard normal (data-dependent priors, PriorGrad, arXiv 2106.06406): what is known is carried over sharply, and the
transformer's work is what comes into view, what was hidden, what changed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.model.actions import CHANGES, NUM_BUTTONS
from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder, ConvNet
from latentcraft.model.beside import halves
from latentcraft.model.cells import no_holds
from latentcraft.model.guess import Guess
from latentcraft.model.in_frame import (
    AROUND,
    CENTRES,
    changed_places,
    coordinates,
    has_happened,
    place_features,
    some_at_once,
)

FOLD = 4
"""Pixels per side folded into channels where the flow net looks closest."""
FINE = 2
"""Pixels per side that share a flow; between them it is interpolated."""
SEEN = 4
"""What the judge is told of each position of a found picture beside its latents, see :func:`judge`."""
BASIS = 6
"""Terms of a quadratic in (x, y): turning the camera moves a picture by nearly that."""
SURE = 0.15
"""Spread of what a picture shows that is known to be right: about that of a picture that is encoded twice."""
LARGEST_CORRELATION = 0.99
"""Keeps the spread above 0.14, so that no position is beyond correction."""


@dataclass(frozen=True)
class MotionConfig:
    """Shape of the motion net."""

    chunk: int = 4
    """Frames in a chunk, ``f``."""
    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    width: int = 96
    """Width at the latents' scale."""
    fine_width: int = 48
    """Width at twice that."""
    dilations: tuple[int, ...] = (1, 2, 4, 1)
    """Of the convolutions at the latents' scale: together they see most of the frame."""
    judge_dilations: tuple[int, ...] = ()
    """Of further convolutions of the judge, which then is also told the actions and the place in the frame directly.
    They begin as if they were not there; 800 steps of three of them foresaw broken blocks no better than none."""
    hand: bool = False
    """Tell the judge what the hand changes (hand.py): convolutions of its own then judge a frame in which, or before
    which in its chunk, something was changed. They begin as if they were not there."""

    def __post_init__(self) -> None:
        if self.width % 8 or self.fine_width % 8:
            raise UserError("motion.model.width and fine_width must be multiples of 8")


class Flow(NamedTuple):
    """Where to look, and what was found out on the way."""

    flow: Tensor
    """fp32 ``(k, f, H, W, 2)``: (y, x) in frame heights, from where a pixel is to where it was in the last picture."""
    hidden: Tensor
    """Features ``(k, d, h, w)`` of the net, which know the actions."""
    told: Tensor
    """What the net was told of the actions, ``(k, n)``; see :func:`action_features`."""


class Found(NamedTuple):
    """The coming pictures as far as they are known."""

    pictures: Tensor
    """fp32 ``(k, f, 3, H, W)``, -1 to 1."""
    inside: Tensor
    """Pixels that were found at all, ``bool (k, f, H, W)``."""
    remembered: Tensor
    """Those that come from the memory of places, ``bool (k, f, H, W)``."""
    coarseness: Tensor
    """Pixels per pixel of the picture they come from, ``(k, f, H, W)``."""


def action_features(actions: Tensor, has_actions: Tensor) -> Tensor:
    """Return what is told of actions ``(..., f, a)`` to the nets, ``(..., f * (a + 2))``; zeros where they are hidden.

    Args:
        actions: vectors, see :mod:`latentcraft.model.actions`.
        has_actions: bool, of the leading axes' shape.
    """
    camera = actions[..., NUM_BUTTONS:]
    # Degrees at two scales: aiming moves a tenth of a degree, turning round twenty.
    features = torch.cat([actions[..., :NUM_BUTTONS], camera / 10, torch.tanh(camera / 2)], -1)
    return features.flatten(-2) * has_actions[..., None]


def sample(picture: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Look up ``picture (k, c, H, W)`` at each pixel plus ``flow (k, f, H, W, 2)``.

    Returns:
        fp32 ``(k, f, c, H, W)``, the border repeated outside the picture, and which pixels were found inside it,
        ``bool (k, f, H, W)``.
    """
    k, f, h, w, _ = flow.shape
    y, x = coordinates(h, w, flow.device)
    # grid_sample wants (x, y), each from -1 to 1 over the picture.
    at = torch.stack([2 * h / w * (x + flow[..., 1]), 2 * (y + flow[..., 0])], -1)
    moved = F.grid_sample(
        picture.float(), at.reshape(k, f * h, w, 2), padding_mode="border", align_corners=False
    )  # fmt: skip
    return rearrange(moved, "k c (f h) w -> k f c h w", f=f), (at.abs() <= 1).all(-1)


class Motion(ConvNet):
    """Predicts the flow, and how far the moved picture is to be trusted."""

    def __init__(self, config: MotionConfig = MotionConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, fine, chunk, layers = config.width, config.fine_width, config.chunk, len(config.dilations)
        features = chunk * (NUM_BUTTONS + 4) + 1
        self.action = nn.Sequential(
            nn.Linear(features, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width * layers)
        )  # fmt: skip
        # Down: pixels, then pixels and latents together.
        self.look = nn.Sequential(
            nn.Conv2d(3 * FOLD**2 + 2, fine, 3, padding=1), nn.SiLU(), nn.Conv2d(fine, fine, 3, padding=1), nn.SiLU()
        )
        self.reduce = nn.Conv2d(fine, width, 2, stride=2)
        self.join = nn.Conv2d(width + config.channels + 2, width, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in config.dilations)
        # Up: the flow as a whole, then its details.
        self.turn = nn.Linear(features, 2 * chunk * BASIS, bias=False)
        self.turn_seen = nn.Linear(width, 2 * chunk * BASIS)
        self.rise = nn.Sequential(nn.Conv2d(width, 4 * fine, 1), nn.PixelShuffle(2))
        self.refine = nn.Conv2d(2 * fine, fine, 3, padding=1)
        self.flow = nn.Conv2d(fine, 2 * chunk * (FOLD // FINE) ** 2, 3, padding=1)
        # What became of the picture, frame by frame: a correction, how much stays as it is, and a correlation.
        self.frame = nn.Embedding(chunk, width)
        self.judge_found = nn.Conv2d(2 * config.channels + SEEN, width, 3, padding=1)
        self.judge_hidden = nn.Conv2d(width, width, 1)
        self.judge = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU())
        self.verdict = nn.Conv2d(width, config.channels + 2, 1)
        if config.judge_dilations:
            self.judge_action = nn.Linear(features, width, bias=False)
            self.judge_place = nn.Linear(3 + len(CENTRES), width, bias=False)
        if config.hand:
            told = 2 * config.channels + SEEN + width + len(CHANGES) * AROUND
            self.judge_hand = nn.Sequential(
                nn.Conv2d(told, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
                nn.Conv2d(width, config.channels + 2, 1),
            )  # fmt: skip
        self.judge_wide = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in config.judge_dilations
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Begin with a still picture, mostly trusted."""
        for layer in (self.flow, self.verdict, self.turn_seen):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.turn.weight)
        if self.config.judge_dilations:
            nn.init.zeros_(self.judge_action.weight)
            nn.init.zeros_(self.judge_place.weight)
        if self.config.hand:
            for parameter in self.judge_hand[-1].parameters():
                nn.init.zeros_(parameter)
        for further in self.judge_wide:
            for parameter in further.parameters():
                nn.init.zeros_(parameter)
        assert self.verdict.bias is not None
        self.verdict.bias.data[-2:] = torch.tensor([-2.0, 2.0])

    def find_flow(self, picture: Tensor, last: Tensor, actions: Tensor, has_actions: Tensor) -> Flow:
        """Predict where things come from.

        Args:
            picture: the last frame ``(k, 3, H, W)``, -1 to 1.
            last: its latents, ``(k, h, w, c)``.
            actions: that lead to the coming chunk, ``(k, f, a)``.
            has_actions: ``bool (k,)``. Hidden actions must not look like none at all: what moved goes on then, and a
                hand that has stopped stops the view.
        """
        dtype, f = self.join.weight.dtype, self.config.chunk
        features = torch.cat([action_features(actions, has_actions), has_actions[:, None]], -1).to(dtype)

        def place(h: int, w: int) -> Tensor:
            return torch.stack(coordinates(h, w, last.device)).to(dtype).expand(len(last), 2, h, w)

        folded = F.pixel_unshuffle(picture.to(dtype), FOLD)
        close = self.look(torch.cat([folded, place(*folded.shape[2:])], 1))
        latents = rearrange(last, "k h w c -> k c h w").to(dtype)
        hidden = self.join(torch.cat([self.reduce(close), latents, place(*latents.shape[2:])], 1))
        modulations = self.action(features)[..., None, None].chunk(2 * len(self.wide), 1)
        for layer, shift, scale in zip(self.wide, modulations[::2], modulations[1::2], strict=True):
            hidden = hidden + layer(F.silu(hidden * (1 + scale) + shift))
        hidden = F.silu(hidden)

        h, w = folded.shape[2] * FOLD // FINE, folded.shape[3] * FOLD // FINE
        y, x = coordinates(h, w, last.device)
        basis = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)  # (h, w, 6)
        smooth = (self.turn(features) + self.turn_seen(hidden.mean((2, 3)))).float()
        smooth = rearrange(smooth, "k (f e s) -> k f e s", f=f, e=2)
        fine = self.flow(F.silu(self.refine(torch.cat([self.rise(hidden), close], 1))))
        fine = rearrange(F.pixel_shuffle(fine, FOLD // FINE).float(), "k (f e) h w -> k f e h w", e=2)
        flow = (fine + torch.einsum("kfes,hws->kfehw", smooth, basis)).flatten(0, 1)
        flow = F.interpolate(flow, scale_factor=FINE, mode="bilinear", align_corners=False)
        return Flow(rearrange(flow, "(k f) e h w -> k f h w e", f=f), hidden, features)

    def judged(
        self, found: Tensor, last: Tensor, seen: Tensor, hidden: Tensor, told: Tensor, there: Tensor,
        changes: Tensor | None = None,
    ) -> Guess:  # fmt: skip
        """Turn the encoded moved picture into a distribution.

        Args:
            found: latents of the moved picture, ``(k, f, h, w, c)``.
            last: latents of the last frame, ``(k, h, w, c)``. What stands still is taken from there: a picture that is
                decoded and encoded again loses a little every time.
            seen: ``(k, f, h, w, 4)``: the share of each position that was found at all, how far the last picture
                moved there, the share that was remembered, and how coarsely; see :func:`judge`.
            hidden: see :class:`Flow`.
            told: see :class:`Flow`.
            there: whether there was a picture at all, ``bool (k,)``.
            changes: what the hand does in each frame, ``(k, f, 2)``; None: nothing.

        Returns:
            The guess. Latents have unit RMS, so a moved one that correlates with the truth by rho predicts it as rho
            times itself, with spread sqrt(1 - rho^2).
        """
        f, dtype = self.config.chunk, self.join.weight.dtype
        if changes is None:
            changes = found.new_zeros(len(found), f, len(CHANGES))
        still = last[:, None].float().expand_as(found)
        shown = rearrange(torch.cat([found, still, seen], -1), "k f h w c -> (k f) c h w").to(dtype)
        known = self.judge_hidden(hidden)[:, None] + self.frame.weight[None, :, :, None, None]
        h, w = found.shape[2:4]
        if self.config.judge_dilations:
            place = self.judge_place(place_features(h, w, found.device).to(dtype))
            place = rearrange(place, "(h w) d -> d h w", w=w)
            known = known + (self.judge_action(told)[:, :, None, None] + place)[:, None]
        thoughts = self.judge(self.judge_found(shown) + known.flatten(0, 1))
        for layer in self.judge_wide:
            thoughts = thoughts + layer(F.silu(thoughts))
        verdict = self.verdict(thoughts).float()
        if self.config.hand:
            verdict = verdict + self.judged_hand(shown, hidden, changes)
        verdict = rearrange(verdict, "(k f) c h w -> k f h w c", f=f)
        correction, stays, certainty = verdict[..., :-2], verdict[..., -2:-1], verdict[..., -1:]
        carried = torch.lerp(found, still, torch.sigmoid(stays))
        moved = Autoencoder.normalise(carried + correction)
        correlation = LARGEST_CORRELATION * torch.sigmoid(certainty) * there[:, None, None, None, None]
        spread = torch.sqrt(1 - correlation.square())
        kept = correlation * Autoencoder.normalise(carried)
        return Guess(correlation * moved, spread, kept, changes, no_holds(changes), torch.zeros_like(spread))


    def judged_hand(self, shown: Tensor, hidden: Tensor, changes: Tensor) -> Tensor:
        """Return what is added to the verdict on frames ``shown (k * f, e, h, w)``, zeros where nothing was changed."""
        f, (h, w) = self.config.chunk, shown.shape[2:]
        places = rearrange(changed_places(changes, h, w), "k f (h w) e -> (k f) e h w", w=w).to(shown.dtype)
        out = torch.zeros(len(shown), self.config.channels + 2, h, w, device=shown.device)
        happened = has_happened(changes).flatten()
        for rows in some_at_once(happened):
            told = torch.cat([shown[rows], hidden[rows // f], places[rows]], 1)
            out = out.index_add(0, rows, self.judge_hand(told.contiguous(memory_format=torch.channels_last)).float())
        return out


def judge(
    autoencoder: Autoencoder, motion: Motion, last: Tensor, found: Found, flow: Flow, there: Tensor,
    changes: Tensor | None = None, certain: Tensor | None = None,
) -> Guess:  # fmt: skip
    """Encode the pictures that were found and let ``motion`` judge them; no gradient reaches the pictures or the flow.

    Args:
        autoencoder: the codec.
        motion: the judge.
        last: latents of the last frame, ``(k, h, w, c)``.
        found: the pictures.
        flow: what moved them.
        there: see :meth:`Motion.judged`.
        changes: see :meth:`Motion.judged`.
        certain: where the pictures are right whatever ``motion`` thinks of them, ``bool (k, f, h, w, 1)``.
    """
    with torch.no_grad():
        latents = halves(autoencoder.encode_pixels, found.pictures.flatten(0, 1))
        latents = latents.unflatten(0, found.pictures.shape[:2])
        # Made contiguous: along an axis that is strided in memory the norm takes 12 times as long.
        length = flow.flow.contiguous().norm(dim=-1)
        way = torch.tanh(F.avg_pool2d(length * flow.flow.shape[2], DOWNSAMPLING))  # pixels
        shares = [F.avg_pool2d(part.float(), DOWNSAMPLING) for part in (found.inside, found.remembered)]
        coarse = F.avg_pool2d(torch.log2(found.coarseness.clamp(0.25, 4.0)), DOWNSAMPLING)
        seen = torch.stack([shares[0], way, shares[1], coarse], -1)
    guess = motion.judged(latents, last, seen, flow.hidden, flow.told, there, changes)
    if certain is None:
        return guess
    mean, spread = (1 - SURE**2) ** 0.5 * latents.float(), torch.where(certain, SURE, guess.spread)
    mean, carried = (torch.where(certain, mean, part) for part in (guess.mean, guess.carried))
    return guess._replace(mean=mean, spread=spread, carried=carried)
