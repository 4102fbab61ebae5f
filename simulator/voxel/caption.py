"""One line of text that says what a world is: what recordings carry and text conditioning will learn from."""

from latentcraft.errors import UserError
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.voxel.sky import WEATHER
from latentcraft.simulator.voxel.terrain import BIOMES

_PLACE = {
    "plains": "grassy plains",
    "forest": "a forest",
    "desert": "a desert",
    "snowy": "a snowy plain",
    "hills": "rocky hills",
    "ocean": "a lake",
    "beach": "a beach",
    "snowy_forest": "a snowy forest",
}
_SKY = {"clear": "clear sky", "overcast": "overcast", "rain": "rain"}
_GOAL = {
    "free": "",
    "chop": "; chop wood",
    "navigate": "; go to the beacon",
    "navigate-shaped": "; go to the beacon",
    "build": "; build on the marked cells",
    "explore": "; explore",
}
# (until, words): time of day 0 is dawn, 0.25 noon, 0.5 dusk, 0.75 midnight.
_TIMES = (
    (0.05, "at dawn"),
    (0.19, "in the morning"),
    (0.31, "at noon"),
    (0.45, "in the afternoon"),
    (0.55, "at dusk"),
    (0.95, "at night"),
    (1.0, "at dawn"),
)


def describe(biome: int, time_of_day: float, weather: int, *, task: str) -> str:
    """Return a caption such as ``a snowy forest at dusk, overcast; chop wood``.

    Args:
        biome: index into :data:`~latentcraft.simulator.voxel.terrain.BIOMES`.
        time_of_day: in [0, 1), 0 dawn, 0.25 noon, 0.5 dusk, 0.75 midnight.
        weather: index into :data:`~latentcraft.simulator.voxel.sky.WEATHER`.
        task: one of :data:`~latentcraft.model.tasks.TASKS`; ``free`` adds no words.

    Raises:
        UserError: an unknown biome, weather or task.
    """
    if not 0 <= biome < len(BIOMES):
        raise UserError(f"biome must be from 0 to {len(BIOMES) - 1} ({', '.join(BIOMES)}), got {biome!r}")
    if not 0 <= weather < len(WEATHER):
        raise UserError(f"weather must be from 0 to {len(WEATHER) - 1} ({', '.join(WEATHER)}), got {weather!r}")
    if task not in _GOAL:
        raise UserError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    time_of_day %= 1.0
    when = next(words for until, words in _TIMES if time_of_day < until)
    return f"{_PLACE[BIOMES[biome]]} {when}, {_SKY[WEATHER[weather]]}{_GOAL[task]}"
