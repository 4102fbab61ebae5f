"""What is drawn where, without a window."""

import numpy as np
import pytest

from latentcraft.agents.curve import SPAN, Curve
from latentcraft.agents.hud import clock, hud_lines, keys_pressed
from latentcraft.agents.panes import arrange, factor_of, heat_map, panes_of, psnr
from latentcraft.agents.screen import wrap
from latentcraft.agents.shot import BRANCH, BRANCH_TRUTH, PLAYED, TRUTH, Facts, Shot
from latentcraft.model.actions import to_vector
from latentcraft.simulator.protocol import Start


def picture(value: int) -> np.ndarray:
    return np.full((96, 160, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("beside", "truth", "labels"),
    [
        ((), False, [[""]]),
        ((TRUTH,), False, [[""]]),
        ((), True, [[""]]),
        ((TRUTH,), True, [["dream", "reference", "error, 22.1 dB", "error, 8 s: 10, 20, 30 dB"]]),
        ((TRUTH, BRANCH, BRANCH_TRUTH), False, [["you"], ["other: nothing"]]),
        ((TRUTH, BRANCH, BRANCH_TRUTH), True,
         [["you", "reference", "error, 22.1 dB"], ["other: nothing", "reference", "error, 99.0 dB"]]),
    ],
)  # fmt: skip
def test_what_stands_beside_what(beside: tuple[str, ...], truth: bool, labels: list[list[str]]):
    values = {TRUTH: 120, BRANCH: 60, BRANCH_TRUTH: 60, PLAYED: 100}
    shot = Shot(picture(100), {name: picture(values[name]) for name in beside})
    rows = panes_of(shot, world="dream", truth=truth, other="nothing", curve=Curve())
    assert [[pane.label for pane in row] for row in rows] == labels


def test_pictures_are_as_large_as_can_be():
    shot = Shot(picture(100), {TRUTH: picture(120)})
    rows = panes_of(shot, world="dream", truth=True, other="", curve=Curve())
    for room, columns, factor in (((960, 576), 2, 3), ((640, 96), 4, 1), ((170, 800), 1, 1), ((50, 50), 2, 1)):
        arranged = arrange(rows, (96, 160), room)
        assert len(arranged[0]) == columns and factor_of(arranged, (96, 160), room) == factor
        assert sum(arranged, []) == rows[0]
    two = [[rows[0][0]], [rows[0][1]]]
    assert len(arrange(two, (96, 160), (1280, 800))) == 1  # beside each other, where neither way makes them larger
    assert len(arrange(two, (96, 160), (960, 300))) == 1 and len(arrange(two, (96, 160), (200, 600))) == 2


def test_errors_glow():
    one, other = picture(100), picture(100)
    other[:, 80:] = 250
    heat = heat_map(one, other)
    assert not heat[:, :80].any() and heat[:, 80:].min() >= 180
    assert psnr(one, one) == 99 and psnr(picture(0), picture(255)) == 0


def test_the_curve_follows_time_back_and_forth():
    curve = Curve()
    empty = curve.picture(96, 160)
    for tick in range(3 * SPAN):
        curve.add(tick // 4 * 4, 25.0 if tick < 3 * SPAN - 20 else 15.0)
    full = curve.picture(96, 160)
    assert (full[30:70, 150] != full[30:70, 100]).any() and (full != empty).any(-1).any(0).all()
    curve.add(0, 20.0)
    assert (curve.picture(96, 160)[:, :150] == empty[:, :150]).all()


def test_figures_are_words():
    action = to_vector({"forward": 1, "attack": 1, "camera": (-2.0, 4.5)})
    assert keys_pressed(action) == "forward  attack  right 4.5°  up 2.0°" and keys_pressed(None) == ""
    assert clock(20 * 65) == "1:05"
    lines = hud_lines(
        Shot(picture(0), {}, action, Facts(Start(seed=7), 1300, 2.0, True, 0.25)), world="dream", task="chop", steps=4,
        frames_per_second=19.9, chunk_seconds=0.127, latency=0.15, player="explorer", slot=2, help_key="f1",
        extra=["recording 0:03"],
    )  # fmt: skip
    text = "\n".join(lines)
    for word in ("dream", "seed 7", "1:05", "explorer plays", "slot 2", "F1: keys", "19.9 frames/s", "chunk 127 ms",
                 "input to picture 150 ms", "steps 4", "uncertainty 0.25", "chop: reward 2.00   done", "recording 0:03",
                 "> forward"):  # fmt: skip
        assert word in text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []), ("one two", ["one two"]), ("one two three", ["one two", "three"]),
        ("no /a/long/path here", ["no", "/a/long/", "path", "here"]), ("abcdefghijk", ["abcdefgh", "ijk"]),
    ],
)  # fmt: skip
def test_long_notes_are_broken(text: str, lines: list[str]):
    assert wrap(text, 8, len) == lines
