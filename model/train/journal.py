"""What a stage wrote down on the way: ``NAME.log.jsonl``, and TensorBoard's files where that is installed."""

import json
from pathlib import Path

from latentcraft.errors import UserError


class Journal:
    """Appends figures of one stage."""

    def __init__(self, out: Path, name: str) -> None:
        """Write into ``out/NAME.log.jsonl`` and ``out/tensorboard/NAME``."""
        self.path = out / f"{name}.log.jsonl"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra "rl" brings it
            self._writer = None
        else:
            self._writer = SummaryWriter(str(out / "tensorboard" / name))  # type: ignore[no-untyped-call]

    def write(self, line: dict[str, float]) -> None:
        """Append ``line``, which has a ``step``.

        Raises:
            UserError: it cannot be written.
        """
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if self._writer is not None:
                for key, value in line.items():
                    if key != "step":
                        self._writer.add_scalar(key, value, int(line["step"]))  # type: ignore[no-untyped-call]
                self._writer.flush()  # type: ignore[no-untyped-call]
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {self.path}: {reason}; free space or choose another out=") from error
