"""The processes that train together: which share of a batch is whose, and what they tell each other.

Under ``torchrun`` every process holds the whole network and the whole data set. **Each draws the random numbers of the
whole batch**, functions of the seed and the step alone, and works on every ``count``-th sample of it from ``rank`` on.
Gradients are averaged once a step, after they are made fp32 and before they are clipped, by one all-reduce (gloo
between CPUs, nccl between GPUs). Steps here call their networks several times and take gradients in between, which the
wrapper of ``DistributedDataParallel`` does not stand.

**What is the same.** The processes among themselves: to the bit, on processors of one kind. A run of several processes
broken off and resumed: to the bit, as one of a single process. One number of processes against another: the same
samples, noise, losses and norms as formulas, so that a step differs only by how sums over the batch and products of
other sizes round. Training lets that grow, first where a gradient is nearly zero and AdamW divides it by its own size:
after 8 steps of the smoke preset's transformer in fp32 no weight was further off than 0.0005. After thousands, two
numbers of processes are two runs, as two kinds of processors are.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from latentcraft.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """One process and what it knows of the others; without a ``fabric`` it is alone and nothing here does anything."""

    fabric: Fabric | None = None
    """Launched, with a process group behind it."""
    shard: bool = False
    """Whether each keeps its share of the training state only, see :mod:`latentcraft.model.shards`."""

    @classmethod
    def launch(cls, accelerator: str, *, shard: bool = False) -> tuple["Ranks", str]:
        """Join the other processes that ``torchrun`` started, if it did.

        Args:
            accelerator: Lightning Fabric's.
            shard: see :attr:`shard`.

        Returns:
            The ranks and this process' device.

        Raises:
            UserError: the machine has no such accelerator, or fewer devices than processes.
        """
        # Both are set by torchrun.
        everywhere, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        try:
            if everywhere == 1:
                return cls(), str(Fabric(accelerator=accelerator, devices=1).device)
            fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=everywhere // here, strategy="ddp")
            fabric.launch()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            what = f"accelerator={accelerator} cannot be used here"
            if everywhere > 1:
                what += f" by {here} processes"
            raise UserError(f"{what} ({reason}); try auto or cpu") from error
        return cls(fabric, shard), str(fabric.device)

    def leave(self) -> None:
        """Part from the others when all are done. A process that ends without may be aborted by its group's threads."""
        if self.fabric is not None:
            self.wait()
            torch.distributed.destroy_process_group()

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    @property
    def mine(self) -> slice:
        """Which entries of a batch are this process'."""
        return slice(self.rank, None, self.count)

    def share(self, batch: Tensor, axis: int = 0) -> Tensor:
        """Return this process' entries of something drawn for the whole batch, along ``axis``."""
        return batch[(slice(None),) * axis + (self.mine,)]

    def check_batch(self, name: str, batch: int) -> None:
        """Raise a UserError unless ``batch``, configured as ``name``, can be shared evenly."""
        if batch % self.count:
            more = -(-batch // self.count) * self.count
            raise UserError(f"{name}={batch} cannot be shared evenly by {self.count} processes; set {name}={more}")

    def average(self, gradients: list[Tensor]) -> None:
        """Average fp32 ``gradients`` over all processes, in place."""
        if self.fabric is None:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._reduce(flat, "mean")
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of all processes' ``value``."""
        return value if self.fabric is None else self._reduce(value.detach().clone(), "sum")

    def give(self, value: Tensor, owner: int) -> None:
        """Make ``value``, in place, what process ``owner`` has there."""
        if self.fabric is None:
            return
        try:
            torch.distributed.broadcast(value, src=owner)
        except RuntimeError as error:
            raise self._left(error) from error

    def norm(self, value: Tensor) -> Tensor:
        """Return the norm of all processes' ``value`` taken together."""
        return value.norm() if self.fabric is None else self.total(value.float().square().sum()).sqrt()

    def weight(self, counted: Tensor) -> Tensor:
        """Return what to multiply a mean over ``counted`` entries with, so that the average of the processes' is the
        mean over the entries of all.
        """
        counted = counted.float()
        return counted.clamp(min=1) * self.count / self.total(counted).clamp(min=1)

    def means(self, figures: dict[str, float]) -> dict[str, float]:
        """Return the mean of all processes' ``figures``, which have the same keys; one NaN makes all of them NaN."""
        if self.fabric is None:
            return figures
        values = self._reduce(torch.tensor(list(figures.values()), device=self.fabric.device), "mean")
        return dict(zip(figures, values.tolist(), strict=True))

    def anywhere(self, *facts: bool) -> list[bool]:
        """Return for each of ``facts`` whether it holds in any process."""
        if self.fabric is None:
            return list(facts)
        found = self._reduce(torch.tensor([float(fact) for fact in facts], device=self.fabric.device), "sum")
        return [value > 0 for value in found.tolist()]

    def told(self, value: Any) -> Any:
        """Return what the first process passes as ``value``."""
        if self.fabric is None:
            return value
        try:
            return self.fabric.broadcast(value)
        except RuntimeError as error:
            raise self._left(error) from error

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.fabric is not None:
            self._reduce(torch.zeros(1, device=self.fabric.device), "sum")

    def _reduce(self, value: Tensor, how: str) -> Tensor:
        assert self.fabric is not None
        try:
            reduced = self.fabric.all_reduce(value, reduce_op=how)
        except RuntimeError as error:  # torch.distributed's errors are
            raise self._left(error) from error
        assert isinstance(reduced, Tensor)
        return reduced

    def _left(self, error: RuntimeError) -> UserError:
        reason = str(error).splitlines()[0]
        return UserError(
            f"process {self.rank} of {self.count} lost the others ({reason}); one has ended, see what it said. "
            "The same command goes on from the last save"
        )


ALONE = Ranks()
"""A process that trains by itself."""
