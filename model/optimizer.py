"""Muon for matrices, AdamW for the rest, on fp32 master weights, with an exponential moving average.

The network itself may live in bf16: gradients are copied to the fp32 masters, the masters are stepped, and the result
is rounded back. Muon (Jordan et al. 2024; ``torch.optim.Muon``) orthogonalises the momentum of each matrix; on this
model it reached the same loss in about half the time AdamW took. Convolution kernels are seen as ``(out, in*k*k)``.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentcraft.model.muon import Fp32Muon
from latentcraft.model.precision import fast_dtype
from latentcraft.model.shards import Peers, gather, own_state, share_out, whole_state


@dataclass(frozen=True)
class OptimizerConfig:
    """Step sizes and decay."""

    matrix_lr: float = 0.02
    """Muon's learning rate for weight matrices (``adjust_lr_fn="original"``)."""
    other_lr: float = 1e-3
    """AdamW's learning rate for embeddings, biases, first and last layers."""
    weight_decay: float = 0.01
    """For the matrices only."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_share: float = 0.25
    """Share of all steps, at the end, over which the rate falls linearly to ``final_scale``. Constant before that, so
    that a run can be lengthened after the fact."""
    final_scale: float = 0.05
    """Rate at the last step, relative to the plateau."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.999
    """Decay of the moving average per step (shorter early on: ``min(ema, (1 + step) / (10 + step))``)."""

    def rate(self, step: int, steps: int) -> float:
        """Return the scale of the learning rates at ``step`` of ``steps``."""
        decay = max(1, round(self.decay_share * steps))
        remaining = max(0.0, min(1.0, (steps - step) / decay))
        return min(1.0, (step + 1) / self.warmup) * (self.final_scale + (1 - self.final_scale) * remaining)


class MasterOptimizer:
    """Steps a network's fp32 masters and keeps their moving average."""

    def __init__(
        self, module: nn.Module, config: OptimizerConfig, *, not_matrices: tuple[str, ...] = (),
        peers: Peers | None = None,
    ):  # fmt: skip
        """Take over ``module``'s parameters.

        Args:
            module: network whose parameters may be of any floating type.
            config: step sizes.
            not_matrices: parts of parameter names left to AdamW although they have two or more axes (first and last
                layers, embeddings and modulations, where orthogonal updates do not help or cost more than they give).
            peers: the processes that train together; where they ``shard``, only the parameters of this one's share get
                masters, average and moments here. All processes must then take every step, save and load together.
        """
        self.config = config
        self._peers = peers
        self.ease = 1.0
        """Scale of all learning rates; a run that diverged goes on with a smaller one."""
        self.parameters = dict(module.named_parameters())
        self._matrices = [
            name for name, parameter in self.parameters.items()
            if parameter.ndim > 1 and not any(part in name for part in not_matrices)
        ]  # fmt: skip
        self._others = [name for name in self.parameters if name not in set(self._matrices)]
        self._sharding = peers if peers is not None and peers.shard and peers.count > 1 else None
        rank, count = (0, 1) if self._sharding is None else (self._sharding.rank, self._sharding.count)
        self.owners: dict[str, int] = {}
        """Process that keeps the state of each parameter; of matrices and others each, the first has some."""
        for names in (self._matrices, self._others):
            self.owners |= share_out({name: self.parameters[name].numel() for name in names}, count)
        mine = {name: p for name, p in self.parameters.items() if self.owners[name] == rank}
        self.masters = {name: p.detach().float().flatten(1).clone() if p.ndim > 1 else p.detach().float().clone()
                        for name, p in mine.items()}  # fmt: skip
        self.average = {name: master.clone() for name, master in self.masters.items()}
        matrices, others = ([self.masters[name] for name in self._own(part)] for part in (self._matrices, self._others))
        self.muon = self.adamw = None
        if matrices:
            kind = torch.optim.Muon if fast_dtype(str(matrices[0].device)) == torch.bfloat16 else Fp32Muon
            self.muon = kind(
                matrices, lr=config.matrix_lr, weight_decay=config.weight_decay, momentum=0.95, adjust_lr_fn="original"
            )
        if others:
            self.adamw = torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.0)

    def _own(self, names: list[str]) -> list[str]:
        """Return those of ``names`` whose state is here."""
        return [name for name in names if name in self.masters]

    def _take_gradients(self) -> None:
        """Give the masters their gradients, in fp32 and averaged over all processes."""
        for name, parameter in self.parameters.items():
            if not parameter.requires_grad:
                continue
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = gradient.float().reshape(len(parameter), -1) if parameter.ndim > 1 else gradient.float()
            parameter.grad = None
            if self._sharding is not None:  # one by one, since all at once are as large as what sharding saves
                self._sharding.average([gradient])
            if name in self.masters:
                self.masters[name].grad = gradient
        if self._peers is not None and self._sharding is None:
            self._peers.average([master.grad for master in self.masters.values() if master.grad is not None])

    def _clip(self) -> float:
        """Shorten the gradients to ``config.clip`` if they are longer; returns their norm before, of all processes."""
        mine = {name: master for name, master in self.masters.items() if master.grad is not None}
        order = [name for name, parameter in self.parameters.items() if parameter.requires_grad]
        norms = torch.zeros(len(order), device=next(iter(self.parameters.values())).device)
        for index, name in enumerate(order):
            if name in mine:
                gradient = mine[name].grad
                assert gradient is not None
                norms[index] = gradient.norm()
        if self._sharding is not None:
            norms = self._sharding.total(norms)
        norm = norms.norm()
        nn.utils.clip_grads_with_norm_(mine.values(), self.config.clip, norm)
        return float(norm)

    @torch.no_grad()
    def step(self, step: int, steps: int) -> float:
        """Apply the gradients of step number ``step`` of ``steps``; returns their norm before clipping. Parameters that
        require none stay as they are.
        """
        self._take_gradients()
        norm = self._clip()
        if not torch.isfinite(torch.tensor(norm)):
            for master in self.masters.values():
                master.grad = None
            return norm
        scale = self.ease * self.config.rate(step, steps)
        for optimizer, rate in ((self.muon, self.config.matrix_lr), (self.adamw, self.config.other_lr)):
            if optimizer is None:
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
        for master in self.masters.values():
            master.grad = None
        self._copy_to(self.parameters, self.masters)
        decay = min(self.config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self.masters.values()), 1 - decay)
        return norm

    def _copy_to(self, parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        """Write fp32 ``values``, the masters or their average, into ``parameters`` of the same names."""
        for name, parameter in parameters.items():
            if name in values:
                parameter.copy_(values[name].view_as(parameter))
            if self._sharding is not None:
                self._sharding.give(parameter.data, self.owners[name])

    @torch.no_grad()
    def copy_average_to(self, module: nn.Module) -> None:
        """Write the moving average into ``module`` (same architecture, any floating type). Processes that shard must
        all do so.
        """
        self._copy_to(dict(module.named_parameters()), self.average)

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        """Return masters, average and both optimisers' states; of shards the whole, in the first process."""
        if self._sharding is None:
            muon, adamw = ({} if part is None else part.state_dict() for part in (self.muon, self.adamw))
            return {"masters": self.masters, "average": self.average, "muon": muon, "adamw": adamw}
        shapes = {name: p.flatten(1) if p.ndim > 1 else p for name, p in self.parameters.items()}
        state: dict[str, Any] = {
            "masters": gather(self.masters, shapes, self.owners, self._sharding),
            "average": gather(self.average, shapes, self.owners, self._sharding),
        }
        for key, part, names in (("muon", self.muon, self._matrices), ("adamw", self.adamw, self._others)):
            state[key] = {}
            if names:
                state[key] = whole_state(part, self._own(names), names, shapes, self.owners, self._sharding)
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict` of any number of processes, writing the masters into the network too."""
        for name, parameter in self.parameters.items():
            if name in self.masters:
                self.masters[name].copy_(state["masters"][name])
                self.average[name].copy_(state["average"][name])
            parameter.copy_(state["masters"][name].view_as(parameter))
        for key, part, names in (("muon", self.muon, self._matrices), ("adamw", self.adamw, self._others)):
            if part is not None:
                part.load_state_dict(own_state(state[key], self._own(names), names))
