"""Where what one keeps goes, and who may play: what the window is told once and never changes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """See the module's docstring."""

    screenshots: Path = Path(".")
    """Folder for screenshots and films."""
    saves: Path = Path("saves")
    """Folder of the save slots."""
    recordings: Path = Path("recordings")
    """Folder for recorded episodes."""
    clip_seconds: float = 15.0
    """Length of a film of the last seconds."""
    clip_format: str = "mp4"
    """``mp4`` or ``gif``."""
    clip_words: bool = False
    """Such films show all that the window showed, figures and notes too; else the bare pictures."""
    gif_megabytes: float | None = None
    """What a GIF may take at most; None for no limit."""
    players: tuple[str, ...] = ("autopilot", "explorer", "tour")
    """Whom the hand-over key lets play in turn, see :func:`latentcraft.agents.players.make_player`."""
    player: str | None = None
    """Who plays at first; None is the person."""
