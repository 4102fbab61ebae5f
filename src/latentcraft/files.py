"""Writing files so that nothing that was there before is ever lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentcraft.errors import UserError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` only if the block succeeds.

    The temporary name keeps the suffix (``x.tmp-123.mp4``), since writers choose formats by it. On any error the
    temporary file is removed and what was at ``path`` stays as it was.

    Raises:
        UserError: the directory cannot be written or the disk is full (the ``OSError`` is chained).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or choose another path") from error
    finally:
        with suppress(OSError):  # a directory that never was (or a read-only one) has nothing to remove
            temporary.unlink()
