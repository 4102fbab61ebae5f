"""Finished parts of an evaluation on disk, so that what was interrupted goes on where it stopped.

A part is what one study found of one world. Its file's name holds a digest of everything the figures depend on: the
world's identity, the plan to the last action, the code. Another checkpoint or setting is another file, so one folder
serves many evaluations, and nothing stale is ever read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import latentcraft
from latentcraft.files import replacing
from latentcraft.simulator.fidelity.figures import Figure
from latentcraft.simulator.fidelity.page import decode_png, encode_png
from latentcraft.simulator.fidelity.report import read_figure, without_nan

CODE = ("simulator", "model")
"""Packages whose sources decide what a figure is."""


class Part(NamedTuple):
    """What one study found of one world."""

    figures: dict[str, Figure]
    timings: Mapping[str, Figure] = {}
    """Times and memory, if the study measures them."""
    pictures: Mapping[str, np.ndarray] = {}
    """Frames ``uint8 (b, k, H, W, 3)`` for film strips, by world."""
    seconds: float = 0.0
    """How long it took."""


class Parts:
    """A folder of parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, settings: Mapping[str, Any], compute: Callable[[], Part]) -> tuple[Part, bool]:
        """Return a part, and whether it was there already.

        Args:
            name: what it is, for people: the beginning of its file's name.
            settings: what it depends on; see :func:`fingerprint`.
            compute: makes it if it is not there.
        """
        path = self.folder / f"{name}-{fingerprint(dict(settings) | {'code': _code()})}.json"
        found = _read(path)
        if found is not None:
            return found, True
        part = compute()
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(_to_json(part)), encoding="utf-8")
        return part, False


def fingerprint(value: Any) -> str:
    """Return a short digest of plain values, arrays and dataclasses of them."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@lru_cache(maxsize=1)
def _code() -> str:
    """Return a digest of the sources that decide what a figure is."""
    sha = hashlib.sha256(latentcraft.__version__.encode())
    for package in CODE:
        root = Path(__file__).resolve().parents[2] / package
        for path in sorted(root.rglob("*.py")):
            sha.update(path.read_bytes())
    return sha.hexdigest()


def _to_json(part: Part) -> dict[str, Any]:
    return without_nan(
        {
            "figures": {key: asdict(figure) for key, figure in part.figures.items()},
            "timings": {key: asdict(figure) for key, figure in part.timings.items()},
            "pictures": {name: _pack(frames) for name, frames in part.pictures.items()},
            "seconds": part.seconds,
        }
    )


def _pack(frames: np.ndarray) -> dict[str, Any]:
    """Lay frames ``(b, k, H, W, 3)`` out as one picture."""
    b, k, height, width, _ = frames.shape
    sheet = frames.transpose(0, 2, 1, 3, 4).reshape(b * height, k * width, 3)
    return {"shape": list(frames.shape), "png": encode_png(sheet)}


def _unpack(values: dict[str, Any]) -> np.ndarray:
    b, k, height, width, _ = values["shape"]
    return decode_png(values["png"]).reshape(b, height, k, width, 3).transpose(0, 2, 1, 3, 4)


def _read(path: Path) -> Part | None:
    """Read a part; None if there is none, or a torn one (it is then made again)."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        figures, timings = (
            {key: read_figure(figure) for key, figure in values[name].items()} for name in ("figures", "timings")
        )
        pictures = {name: _unpack(packed) for name, packed in values["pictures"].items()}
        return Part(figures, timings, pictures, float(values["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
