"""Training states in shards: each process keeps what the optimiser needs of its share of the parameters.

The network and its gradients are in every process; fp32 masters, their average and the optimisers' moments (17 of a
parameter's 23 bytes) are only in the process that steps it, which then gives the others the new value (the first stage
of ZeRO, arXiv 1910.02054). A matrix is never cut, since Muon needs it whole. On disk the shards are one state again, so
that a run goes on with any number of processes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

MOMENTS = ("momentum_buffer", "step", "exp_avg", "exp_avg_sq")
"""What Muon and AdamW keep of a parameter; each of its shape, but for ``step``."""


class Peers(Protocol):
    """The processes that train together, as :class:`latentcraft.model.train.ranks.Ranks` implements it."""

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    @property
    def shard(self) -> bool:
        """Whether each keeps only its share of the training state."""
        ...

    def average(self, gradients: list[Tensor]) -> None: ...

    def total(self, value: Tensor) -> Tensor: ...

    def give(self, value: Tensor, owner: int) -> None:
        """Make ``value``, in place, what process ``owner`` has there."""
        ...


def share_out(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Return which of ``count`` processes each name belongs to: the largest first, each to who has least."""
    loads, owners = [0] * count, {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return owners


def gather(
    values: dict[str, Tensor], like: dict[str, Tensor], owners: dict[str, int], peers: Peers
) -> dict[str, Tensor]:
    """Return in the first process the ``values`` of all, as CPU tensors; nothing in the others.

    Args:
        values: this process' own.
        like: tensors of all the shapes, fp32 ones are made of them on their devices.
        owners: of all names.
        peers: all must call.
    """
    gathered = {}
    for name, owner in owners.items():
        value = values[name] if owner == peers.rank else torch.empty_like(like[name], dtype=torch.float32)
        value = value.to(like[name].device).contiguous()
        peers.give(value, owner)
        if peers.rank == 0:
            gathered[name] = value.cpu()
    return gathered


def whole_state(
    optimizer: torch.optim.Optimizer | None, own: Sequence[str], names: Sequence[str], like: dict[str, Tensor],
    owners: dict[str, int], peers: Peers,
) -> dict[str, Any]:  # fmt: skip
    """Return in the first process what ``optimizer.state_dict()`` would be if it had all of ``names`` and not only its
    ``own``, in order; all must call. The processes have taken the same steps.
    """
    state = {"state": {}, "param_groups": []} if optimizer is None else optimizer.state_dict()
    kept = {name: state["state"].get(index, {}) for index, name in enumerate(own)}
    index_of = {name: index for index, name in enumerate(names)}
    whole: dict[int, dict[str, Tensor]] = {}
    for moment in MOMENTS:
        have = torch.zeros(len(names), device=next(iter(like.values())).device)
        for name in own:
            have[index_of[name]] = float(moment in kept[name])
        have = peers.total(have)
        sharing = {name: owners[name] for name, there in zip(names, have.tolist(), strict=True) if there}
        shapes = {name: like[name].new_empty(() if moment == "step" else like[name].shape) for name in sharing}
        mine = {name: kept[name][moment] for name in sharing if name in kept}
        for name, value in gather(mine, shapes, sharing, peers).items():
            whole.setdefault(index_of[name], {})[moment] = value
    groups = [group | {"params": list(range(len(names)))} for group in state["param_groups"][:1]]
    return {"state": whole, "param_groups": groups}


def own_state(state: dict[str, Any], own: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the part of a whole optimiser's ``state`` of ``names`` that is about ``own``."""
    index_of = {name: index for index, name in enumerate(names)}
    places = [index_of[name] for name in own]
    kept = {index: state["state"][place] for index, place in enumerate(places) if place in state["state"]}
    groups = [group | {"params": list(range(len(own)))} for group in state["param_groups"]]
    return {"state": kept, "param_groups": groups}
