"""SpacetimeDiT: a causal diffusion transformer over spacetime patches.

* one token is a patch of 4 frames x 2 x 2 latents: 60 tokens a chunk at the default frame
* two layers attend within a chunk, every third attends to the same place in earlier chunks (Dreamer 4, MIRA)
* rotary positions (2-D in space, 1-D in time) and the place as seen from the frame's middle, so other frame sizes and
  lengths stay open
* RMSNorm, QK-norm, ReLU^2, adaLN-zero from signal level, step size, actions and task
* predicts the clean latent; reward and termination are read off the finished chunk's features
* every token also gets the patch at its place in the previous clean chunk, as diffusion models of games do by stacking
  frames (DIAMOND, arXiv 2405.12399): attention within the chunk can then move the picture as the camera turns
* denoising starts from a guess of the chunk (motion.py moves the last frame to where it should be); the net sees the
  guess and predicts what it lacks
* training runs a clean and several noised copies of a clip side by side: every noised chunk attends to *clean* past
  chunks, exactly what streaming with a cache does (cf. ACDiT, arXiv 2412.07720). Copies are the axis ``g``; copy 0 is
  the context, and streaming or a plain causal forward is the case of one copy.
* a few convolutions at the latents' own scale write the details (refiner.py)
* the cache is an argument, not a mode
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.model.actions import CHANGES, NUM_BUTTONS
from latentcraft.model.attention import KVCache, grid_angles, rope_angles
from latentcraft.model.guess import Guess
from latentcraft.model.in_frame import (
    AROUND,
    CENTRES,
    changed_places,
    hand_region,
    place_features,
    some_at_once,
)
from latentcraft.model.layer import Layer, rms_norm
from latentcraft.model.motion import action_features
from latentcraft.model.outcomes import REWARD_BINS, Outcomes
from latentcraft.model.refiner import Refiner
from latentcraft.model.streamed import can_stream, modulations, stream
from latentcraft.model.tasks import TASKS
from latentcraft.model.touch import Touch

STEP_SIZES: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Denoising step sizes the net is conditioned on; 8, 4, 2 or 1 steps make a chunk. The first is the finest."""


@dataclass(frozen=True)
class DiTConfig:
    """Shape of the transformer."""

    width: int = 256
    """Width ``d``."""
    depth: int = 9
    """Layers; every ``temporal_every``-th is temporal."""
    temporal_every: int = 3
    """1 temporal to 2 spatial layers; Dreamer 4 uses 1 to 3 at its larger size."""
    head_size: int = 64
    """Width of one attention head."""
    chunk: int = 4
    """Frames in a chunk, ``f``."""
    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    patch: int = 2
    """Latent positions per side in one token."""
    context: int = 16
    """Chunks a query may see, itself included; also the clip length of training."""
    refiner_width: int = 0
    """Width of the convolutions after the last layer; 0 has none."""
    refiner_layers: int = 3
    """How many there are between the first and the last of them."""
    place: bool = False
    """Tell every token where in the frame it lies. Rotary positions say only how tokens lie to each other, and a hand
    works in the middle: without this, 2,000 steps taught a net nothing of blocks that break or are placed."""
    touch_width: int = 0
    """Width of the convolutions that draw what the hand has changed (touch.py), of which heads are told; 0 has none."""
    hand_told: bool = False
    """Tell the heads what the hand has changed also where no touch draws it."""

    def __post_init__(self) -> None:
        if self.width % self.head_size or self.head_size % 4:
            raise UserError(f"width {self.width} must be a multiple of head_size {self.head_size}, and that of 4")
        if self.patch < 1:
            raise UserError(f"patch must be at least 1, got {self.patch}")
        if self.depth < self.temporal_every:
            raise UserError(f"depth {self.depth} has no temporal layer; it must be at least {self.temporal_every}")
        if self.context < 5:
            raise UserError(f"context must be at least 5 chunks (the warm-up and the one after it), got {self.context}")


class Prediction(NamedTuple):
    """What a forward pass returns."""

    latents: Tensor
    """Predicted clean latents, ``(b, g, t, f, h, w, c)``."""
    outcomes: Outcomes
    """Of copy 0, ``(b, t, ...)``."""
    keys: Tensor
    """``(layers, b * n, heads, t, size)`` of copy 0, for the cache."""
    values: Tensor
    """Same shape."""


class Told(NamedTuple):
    """What the net is told of chunks beside their latents; see :meth:`SpacetimeDiT.prepare`."""

    condition: Tensor
    """``(b, g, t, d)``."""
    tokens: Tensor
    """What every patch is told, ``(b, 1, t, n, d)``."""
    modulation: Tensor | None = None
    """Of the layers, ``(b, g, t, layers, 6 * d)``, where it was made ahead."""

    def of_copy(self, copy: int) -> "Told":
        """Return that of one copy alone."""
        modulation = None if self.modulation is None else self.modulation[:, copy : copy + 1]
        return self._replace(condition=self.condition[:, copy : copy + 1], modulation=modulation)


def patches(latents: Tensor, side: int) -> Tensor:
    """Cut latents ``(b, g, t, f, h, w, c)`` into spacetime patches ``(b, g, t, n, f * side * side * c)``."""
    return rearrange(latents, "b g t f (h p) (w q) c -> b g t (h w) (f p q c)", p=side, q=side)


def before(chunks: Tensor) -> Tensor:
    """Return the chunk before each of ``chunks (b, t, ...)``, zeros before the first."""
    return torch.cat([torch.zeros_like(chunks[:, :1]), chunks[:, :-1]], 1)


class SpacetimeDiT(nn.Module):
    """The world model's transformer."""

    def __init__(self, config: DiTConfig = DiTConfig(), *, heads: bool = True):  # noqa: B008 (frozen)
        """Build it, with or without reward and termination heads."""
        super().__init__()
        self.config, self.heads = config, heads
        width, patch = config.width, config.chunk * config.patch**2 * config.channels
        self.embed = nn.Linear(patch, width)
        self.embed_past = nn.Linear(patch, width, bias=False)
        self.embed_moved = nn.Linear(patch + config.chunk * config.patch**2, width, bias=False)
        self.embed_place = nn.Linear(3 + len(CENTRES), width, bias=False) if config.place else None
        self.signal = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.step = nn.Embedding(len(STEP_SIZES), width)
        features = config.chunk * (NUM_BUTTONS + 4)
        self.action = nn.Sequential(nn.Linear(features, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.no_action = nn.Parameter(torch.zeros(width))
        self.task = nn.Embedding(len(TASKS), width)
        self.layers = nn.ModuleList(
            Layer(width, config.head_size, temporal=index % config.temporal_every == config.temporal_every - 1)
            for index in range(config.depth)
        )
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, patch)
        self.refiner = None
        if config.refiner_width:
            self.refiner = Refiner(
                width=config.refiner_width, tokens=width, frames=config.chunk, channels=config.channels,
                patch=config.patch, layers=config.refiner_layers,
            )  # fmt: skip
        self.touch = None
        if config.touch_width:
            self.touch = Touch(
                width=config.touch_width, condition=width, frames=config.chunk, channels=config.channels
            )
        if heads:
            self.outcome_token = nn.Linear(width, width)
            self.outcome_hand = None
            if config.touch_width or config.hand_told:
                self.outcome_hand = nn.Linear(config.chunk * len(CHANGES) * AROUND, width, bias=False)
            self.outcome = nn.Linear(2 * width, config.chunk * (len(REWARD_BINS) + 1))
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated-normal matrices scaled by fan-in; modulations and outputs start at zero, gates just open."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            nn.init.zeros_(layer.modulation.weight)
            # Gates open slightly, so that every layer gets gradient from the first step on.
            layer.modulation.bias.data.view(2, 3, -1)[:, 2] = 0.1
        for linear in (self.final_modulation, self.final, *((self.outcome,) if self.heads else ())):
            nn.init.zeros_(linear.weight)
        if self.embed_place is not None:  # so that a net that was trained without it can go on with it
            nn.init.zeros_(self.embed_place.weight)
        if self.heads and self.outcome_hand is not None:
            nn.init.zeros_(self.outcome_hand.weight)
        if self.refiner is not None:
            self.refiner.init_weights()
        if self.touch is not None:
            self.touch.init_weights()

    @property
    def temporal_layers(self) -> int:
        """Number of layers that have keys and values to cache."""
        return sum(1 for layer in self.layers if layer.temporal)

    def empty_cache(self, worlds: int, grid: tuple[int, int]) -> KVCache:
        """Allocate a cache for ``worlds`` streams of ``grid`` (h, w); a query sees ``context - 1`` past chunks."""
        config, weight = self.config, self.final.weight
        return KVCache.empty(
            layers=self.temporal_layers, worlds=worlds, chunk=(config.chunk, *grid, config.channels),
            tokens=grid[0] * grid[1] // config.patch**2, heads=config.width // config.head_size,
            capacity=config.context - 1, size=config.head_size, dtype=weight.dtype, device=weight.device,
        )  # fmt: skip

    def condition(self, signal: Tensor, step: Tensor, action: Tensor, task: Tensor) -> Tensor:
        """Embed what a chunk is conditioned on: ``(b, g, t, d)`` from embedded actions ``(b, t, d)`` and the rest."""
        frequencies = torch.exp(torch.linspace(0, 6, self.config.width // 2, device=signal.device))
        angles = signal.float()[..., None] * frequencies
        level = self.signal(torch.cat([angles.cos(), angles.sin()], -1).to(self.final.weight.dtype))
        return level + self.step(step) + (action + self.task(task)[:, None])[:, None]

    def conditioned(
        self, signal: Tensor, step: Tensor, actions: Tensor, task: Tensor, has_actions: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return what the layers are told of what chunks are conditioned on, see :meth:`forward`: ``(b, g, t, d)``."""
        if has_actions is None:
            has_actions = torch.ones(len(actions), dtype=torch.bool, device=actions.device)
        features = action_features(actions, has_actions[:, None].expand(actions.shape[:2]))
        action = self.action(features.to(self.final.weight.dtype))
        action = torch.where(has_actions[:, None, None], action, self.no_action)  # (b, t, d)
        return F.silu(self.condition(signal, step, action, task))

    def prepare(
        self, signal: Tensor, step: Tensor, actions: Tensor, has_actions: Tensor, task: Tensor, guess: Guess,
        past: Tensor, *, ahead: bool = False,
    ) -> Told:  # fmt: skip
        """Return what the net is told of chunks beside their latents; arguments as of :meth:`forward`. ``ahead`` makes
        the layers' modulation, too.
        """
        side, dtype = self.config.patch, self.final.weight.dtype
        known = torch.cat([patches(guess.mean[:, None], side), patches(guess.spread[:, None], side)], -1)
        tokens = self.embed_past(patches(past[:, None], side).to(dtype)) + self.embed_moved(known.to(dtype))
        if self.embed_place is not None:
            height, width = past.shape[-3] // side, past.shape[-2] // side
            tokens = tokens + self.embed_place(place_features(height, width, past.device).to(dtype))
        condition = self.conditioned(signal, step, actions, task, has_actions)
        layers = cast(Sequence[Layer], self.layers)
        return Told(condition, tokens, modulations(layers, condition) if ahead else None)

    def forward(
        self, latents: Tensor, signal: Tensor, step: Tensor, actions: Tensor, *, has_actions: Tensor | None = None,
        task: Tensor | None = None, cache: KVCache | None = None, past: Tensor | None = None,
        guess: Guess | None = None, details: bool = True, told: Told | None = None,
    ) -> Prediction:  # fmt: skip
        """Predict clean latents.

        Args:
            latents: ``(b, g, t, f, h, w, c)``, h and w multiples of ``patch``; copy 0 is the context of the others.
            signal: signal level of each chunk, ``(b, g, t)``, 0 noise to 1 data.
            step: index into :data:`STEP_SIZES`, ``int64 (b, g, t)``.
            actions: ``(b, t, f, a)``; entry ``i`` led to frame ``i``.
            has_actions: ``bool (b,)``; False models the video without knowing its actions. Default all True.
            task: index into :data:`latentcraft.model.tasks.TASKS`, ``int64 (b,)``. Default 0.
            cache: finished chunks to attend to; then ``t`` must be 1 and ``latents`` is the chunk that follows them.
                The cache is only read: append ``keys`` and ``values`` once the chunk is final.
            past: the chunk before each, ``(b, t, f, h, w, c)``. Default: the cache's, or copy 0 itself.
            guess: what denoising of each chunk started from, ``(b, t, f, h, w, ...)``; see
                :class:`latentcraft.model.guesser.Guesser`. Default: a standard normal, as where nothing is known.
            details: refine the predicted latents; False where only keys, values and outcomes are wanted.
            told: what :meth:`prepare` returned for these chunks: then only latents, keys and values are of use, the
                outcomes are none.

        Returns:
            The prediction; see :class:`Prediction`.
        """
        b, g, t, _, h, w, _ = latents.shape
        dtype, size = self.final.weight.dtype, self.config.head_size
        if has_actions is None:
            has_actions = torch.ones(b, dtype=torch.bool, device=latents.device)
        if task is None:
            task = torch.zeros(b, dtype=torch.int64, device=latents.device)
        if past is None:
            past = before(latents[:, 0]) if cache is None else cache.last[:, None]
        if guess is None:
            guess = Guess.of_nothing(past)
        mean, spread = guess.mean[:, None], guess.spread[:, None]  # (b, 1, t, f, h, w, ...), the same for all copies
        side, outcomes_wanted = self.config.patch, told is None
        if told is None:
            told = self.prepare(signal, step, actions, has_actions, task, guess, past)
        c = told.condition  # (b, g, t, d)
        x = self.embed(patches(latents, side).to(dtype)) + told.tokens + c[..., None, :]

        space = grid_angles(h // side, w // side, size, latents.device)
        if cache is not None and can_stream(x, cache):
            assert t == 1 and g == 1, "streaming takes one chunk of one copy"
            layers = cast(Sequence[Layer], self.layers)
            modulation = modulations(layers, c) if told.modulation is None else told.modulation
            streamed = stream(layers, x[:, 0, 0], modulation[:, 0, 0], space, rope_angles(cache.length, size), cache)
            x, keys, values = streamed.tokens.to(dtype).reshape(x.shape), streamed.keys, streamed.values
        else:
            x, keys, values = self.all_layers(x, c, space, cache)

        shift, scale = self.final_modulation(c)[..., None, :].chunk(2, -1)
        features = rms_norm(x) * (1 + scale) + shift
        sizes = {"h": h // side, "f": self.config.chunk, "p": side, "q": side}
        y = rearrange(self.final(features), "b g t (h w) (f p q c) -> b g t f (h p) (w q) c", **sizes).float()
        if self.refiner is not None and details:
            copies = slice(1, None) if g > 1 else slice(None)  # nobody asks what the context copy looks like
            start = [part.expand(-1, g, -1, -1, -1, -1, -1)[:, copies] for part in (mean, spread)]
            seen = torch.cat([latents[:, copies], *start], -1).to(dtype)
            drawn = self.refiner(features[:, copies], c[:, copies], seen).float()
            y = y + (torch.cat([torch.zeros_like(y[:, :1]), drawn], 1) if g > 1 else drawn)
        if self.touch is not None and details:
            y = self.touched(y, latents, guess, past, c)
        y = mean + spread * y
        outcomes = Outcomes.of_nothing((len(x), x.shape[2], self.config.chunk), x.device)
        if self.heads and outcomes_wanted:
            outcomes = self.outcomes(x[:, 0], c[:, 0], guess.changes, (h // side, w // side))
        return Prediction(y, outcomes, keys, values)

    def all_layers(self, x: Tensor, c: Tensor, space: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layers on tokens ``x (b, g, t, n, d)``, conditioned on ``c (b, g, t, d)``, at rotary angles ``space
        (n, size / 2)``; returns the tokens, and keys and values as in :class:`Prediction`.
        """
        _, g, t, _, _ = x.shape
        size, dtype = self.config.head_size, x.dtype
        if cache is None:
            time = rope_angles(torch.arange(t, device=x.device).repeat(g), size)
            earlier = torch.ones(t, t, dtype=torch.bool, device=x.device).tril(-1).repeat(g, 1)
            mask = torch.zeros(g * t, t, dtype=dtype, device=x.device).masked_fill_(~earlier, float("-inf"))
        else:
            assert t == 1 and g == 1, "streaming takes one chunk of one copy"
            time = rope_angles(cache.length.repeat_interleave(cache.tokens), size)[:, None, None]
            mask = cache.mask()
        space_cos, space_sin = space.cos().to(dtype), space.sin().to(dtype)
        time_cos, time_sin = time.cos().to(dtype), time.sin().to(dtype)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer in self.layers:
            if layer.temporal:
                cached = None if cache is None else (cache.keys[len(keys)], cache.values[len(keys)])
                x, k, v = layer(x, c, time_cos, time_sin, mask, cached)
                keys.append(k)
                values.append(v)
            else:
                x, _, _ = layer(x, c, space_cos, space_sin, None, None)
        return x, torch.stack(keys), torch.stack(values)

    def touched(self, y: Tensor, latents: Tensor, guess: Guess, past: Tensor, condition: Tensor) -> Tensor:
        """Return the prediction ``y``, in units of the guess's spread, with what the hand has changed drawn anew; all
        arguments as in :meth:`forward`, ``condition (b, g, t, d)``.
        """
        assert self.touch is not None
        b, g, t, _, h, w, _ = y.shape
        where = hand_region(guess.changes, guess.holds, h, w) & (guess.settled == 0)
        where = where.flatten(0, 1)[:, None]  # (b * t, 1, f, h, w, 1)
        told = Guess(*(part.flatten(0, 1) for part in guess))
        y, latents, condition = (part.transpose(1, 2).flatten(0, 1) for part in (y, latents, condition))
        before = past.flatten(0, 1)

        def of_copies(part: Tensor) -> Tensor:
            return part[:, None].expand(-1, g, *part.shape[1:]).flatten(0, 1)

        for rows in some_at_once(where.flatten(1).any(1)):
            known = Guess(*(of_copies(part[rows]) for part in told))
            drawn = self.touch(
                latents[rows].flatten(0, 1), known, of_copies(before[rows]), condition[rows].flatten(0, 1)
            )  # fmt: skip
            y = y.index_copy(0, rows, torch.where(where[rows], drawn.unflatten(0, (len(rows), g)), y[rows]))
        return y.unflatten(0, (b, t)).transpose(1, 2)

    def outcomes(self, x: Tensor, condition: Tensor, changes: Tensor, grid: tuple[int, int]) -> Outcomes:
        """Read reward and termination logits off a chunk's last features ``(b, t, n, d)``, of a ``grid`` of tokens, and
        what the hand ``changes (b, t, f, 2)``.
        """
        tokens = self.outcome_token(rms_norm(x))
        if self.outcome_hand is not None:
            changed = rearrange(changed_places(changes, *grid), "b t f n e -> b t n (f e)")
            tokens = tokens + self.outcome_hand(changed.to(tokens.dtype))
        pooled = F.relu(tokens).square().mean(-2)
        logits = self.outcome(torch.cat([pooled, condition], -1))
        logits = rearrange(logits, "b t (f k) -> b t f k", f=self.config.chunk)
        return Outcomes(logits[..., :-1], logits[..., -1])
