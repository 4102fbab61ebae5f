"""Sky and light by time of day and weather."""

import math
from typing import NamedTuple

import numpy as np

from latentcraft.errors import UserError

WEATHER: tuple[str, ...] = ("clear", "overcast", "rain")
CLEAR, OVERCAST, RAIN = range(len(WEATHER))

_NIGHT_LIGHT = 0.6
"""Light at midnight: dark, yet a player (and an autoencoder) can still tell blocks apart."""
_MIN_LIGHT = 0.5
_LIGHT_FACTOR = (1.0, 0.85, 0.75)
_FOG_DISTANCE = (88.0, 70.0, 46.0)
_GREYNESS = (0.0, 0.75, 0.9)
"""How far each weather pulls the sky's colours towards grey."""

# Colours RGB 0 to 1.
_DAY_ZENITH, _DAY_HORIZON = np.array([0.28, 0.52, 0.90]), np.array([0.70, 0.83, 0.96])
_DUSK_ZENITH, _DUSK_HORIZON = np.array([0.30, 0.30, 0.56]), np.array([0.98, 0.58, 0.30])
_DAWN_ZENITH, _DAWN_HORIZON = np.array([0.40, 0.42, 0.68]), np.array([0.98, 0.72, 0.62])
_NIGHT_ZENITH, _NIGHT_HORIZON = np.array([0.04, 0.05, 0.15]), np.array([0.12, 0.16, 0.30])
_DAY_SUN, _LOW_SUN, _MOON = np.array([1.0, 0.97, 0.82]), np.array([1.0, 0.62, 0.28]), np.array([0.80, 0.86, 1.0])
_DAY_TINT, _LOW_TINT, _NIGHT_TINT = np.array([1.0, 1.0, 1.0]), np.array([1.0, 0.86, 0.72]), np.array([0.78, 0.86, 1.1])


class Sky(NamedTuple):
    """What the renderer needs to know about the sky. All numbers are float32, colours RGB from 0 to 1."""

    zenith: np.ndarray
    """(3,) colour overhead."""
    horizon: np.ndarray
    """(3,) colour at the horizon; fog fades to it."""
    sun_colour: np.ndarray
    """(3,) colour of the disc (of the moon at night)."""
    tint: np.ndarray
    """(3,) multiplies block colours: white by day, warm at dawn and dusk, blue at night. Apply beside ``light``."""
    light: np.float32
    """Brightness of open ground, 0.5 (rainy night) to 1 (clear noon)."""
    fog_distance: np.float32
    """Blocks at which the world has faded into the horizon's colour."""
    sun_direction: np.ndarray
    """(3,) unit vector (x, y, z) from the ground to the sun; the moon stands opposite."""
    rain: np.float32
    """0 (dry) to 1 (rain falls)."""


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Return ``a`` with ``share`` of ``b``."""
    return a + (b - a) * share


def _smoothstep(low: float, high: float, value: float) -> float:
    """Return 0 below ``low``, 1 above ``high``, a smooth ramp between."""
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


def sky_at(time_of_day: float, weather: int) -> Sky:
    """Return the sky at ``time_of_day`` in [0, 1) (0 dawn, 0.25 noon, 0.5 dusk, 0.75 midnight).

    Raises:
        UserError: a time that is not finite or an unknown weather.
    """
    if not math.isfinite(time_of_day):
        raise UserError(f"time of day must be a finite number, got {time_of_day!r}")
    if not 0 <= weather < len(WEATHER):
        raise UserError(f"weather must be from 0 to {len(WEATHER) - 1} ({', '.join(WEATHER)}), got {weather!r}")
    angle = 2.0 * math.pi * (time_of_day % 1.0)
    elevation = math.sin(angle)
    day = _smoothstep(-0.22, 0.32, elevation)
    low = 1.0 - _smoothstep(0.0, 0.5, abs(elevation - 0.03))  # the sun is near the horizon
    evening = math.cos(angle) < 0.0
    zenith = _mix(_NIGHT_ZENITH, _DAY_ZENITH, day)
    horizon = _mix(_NIGHT_HORIZON, _DAY_HORIZON, day)
    zenith = _mix(zenith, _DUSK_ZENITH if evening else _DAWN_ZENITH, 0.7 * low)
    horizon = _mix(horizon, _DUSK_HORIZON if evening else _DAWN_HORIZON, 0.9 * low)
    tint = _mix(_mix(_NIGHT_TINT, _DAY_TINT, day), _LOW_TINT, 0.8 * low)
    grey = _GREYNESS[weather]
    zenith = _mix(zenith, np.full(3, zenith.mean() * 0.92), grey)
    horizon = _mix(horizon, np.full(3, horizon.mean() * 0.88), grey)
    tint = _mix(tint, np.full(3, tint.mean()), 0.6 * grey)
    sun = _mix(_DAY_SUN, _LOW_SUN, low) if elevation > -0.12 else _MOON
    light = (_NIGHT_LIGHT + (1.0 - _NIGHT_LIGHT) * day) * _LIGHT_FACTOR[weather]
    direction = np.array([math.cos(angle), elevation, 0.35])
    return Sky(
        zenith.astype(np.float32),
        horizon.astype(np.float32),
        sun.astype(np.float32),
        tint.astype(np.float32),
        np.float32(max(light, _MIN_LIGHT)),
        np.float32(_FOG_DISTANCE[weather]),
        (direction / np.linalg.norm(direction)).astype(np.float32),
        np.float32(weather == RAIN),
    )
