"""Saved states on disk, each distinct block of bytes once: states of one game a second apart are mostly alike."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from latentcraft.simulator.protocol import WorldState

BLOCK = 1 << 14
"""Bytes in a block. A dream's state is some megabytes of remembered pictures and cached attention, most of which stays
where it is from one second to the next."""
BOOL = np.dtype(np.bool_).str
"""These are stored as bits."""


@dataclass(frozen=True)
class Kept:
    """Where the parts of one state lie in its store."""

    world: str
    meta: dict[str, Any]
    parts: Mapping[str, tuple[str, tuple[int, ...], np.ndarray]]
    """Array's name -> dtype, shape, numbers of its blocks ``int64 (k,)``."""


class StateStore:
    """Keeps states in one file without a name, which the system removes with the process however it ends.

    Blocks that several states share are stored once; room of dropped states is used again. Not for several threads at
    once. Memory: about 100 bytes a block (16 kB) on disk.
    """

    def __init__(self) -> None:
        """Make the file, in the system's folder for temporary ones (``TMPDIR``)."""
        self._file = tempfile.TemporaryFile(prefix="latentcraft-", buffering=0)
        self._where: dict[bytes, int] = {}
        self._digests: list[bytes] = []
        self._uses: list[int] = []
        self._free: list[int] = []

    @property
    def size(self) -> int:
        """Bytes the file takes at most."""
        return len(self._uses) * BLOCK

    def put(self, state: WorldState) -> Kept:
        """Store ``state``; its ``meta`` is shared, not copied.

        Raises:
            OSError: no room; nothing of the state is kept.
        """
        parts: dict[str, tuple[str, tuple[int, ...], np.ndarray]] = {}
        kept = Kept(state.world, state.meta, parts)
        try:
            for name, array in state.arrays.items():
                flat = np.ascontiguousarray(array).reshape(-1)
                data = (np.packbits(flat) if array.dtype == np.bool_ else flat.view(np.uint8)).data
                numbers: list[int] = []
                parts[name] = (array.dtype.str, array.shape, np.empty(0, np.int64))
                try:
                    for at in range(0, len(data), BLOCK):
                        numbers.append(self._put_block(data[at : at + BLOCK]))
                finally:
                    parts[name] = (array.dtype.str, array.shape, np.array(numbers, np.int64))
        except OSError:
            self.drop(kept)
            raise
        return kept

    def get(self, kept: Kept) -> WorldState:
        """Read a state back."""
        arrays = {}
        for name, (dtype, shape, numbers) in kept.parts.items():
            count = math.prod(shape)
            flat = np.empty(-(-count // 8) if dtype == BOOL else count * np.dtype(dtype).itemsize, np.uint8)
            for i, number in enumerate(numbers.tolist()):
                self._file.seek(number * BLOCK)
                self._file.readinto(flat[i * BLOCK : (i + 1) * BLOCK].data)
            values = np.unpackbits(flat, count=count).view(np.bool_) if dtype == BOOL else flat.view(dtype)
            arrays[name] = values.reshape(shape)
        return WorldState(kept.world, kept.meta, arrays)

    def drop(self, kept: Kept) -> None:
        """Give up a state's room, where no other state needs it."""
        for _, _, numbers in kept.parts.values():
            for number in numbers.tolist():
                self._uses[number] -= 1
                if not self._uses[number]:
                    del self._where[self._digests[number]]
                    self._free.append(number)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def _put_block(self, block: memoryview) -> int:
        digest = blake2b(block, digest_size=16).digest()
        number = self._where.get(digest)
        if number is None:
            number = self._free[-1] if self._free else len(self._uses)
            self._file.seek(number * BLOCK)
            if self._file.write(block) != len(block):
                raise OSError("no room for saved states")
            if self._free:
                self._free.pop()
                self._digests[number] = digest
            else:
                self._uses.append(0)
                self._digests.append(digest)
            self._where[digest] = number
        self._uses[number] += 1
        return number
