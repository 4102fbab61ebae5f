from pathlib import Path

import numpy as np
import pytest

from latentcraft.agents.script import bundled_scripts, load_script, parse_script
from latentcraft.agents.script_parser import MAX_TICKS, spread_turn
from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, CAMERA_LIMIT, PITCH, YAW, check_vectors
from latentcraft.simulator.protocol import TICKS_PER_SECOND


def held(actions: np.ndarray, name: str) -> list[int]:
    return np.flatnonzero(actions[:, BUTTON_INDEX[name]]).tolist()


def test_bundled_scripts_are_valid_actions_of_whole_seconds():
    assert {"tour", "full_turn", "dig_and_return", "wall"} <= set(bundled_scripts())
    for name in bundled_scripts():
        script = load_script(name)
        assert script.name == name and script.about
        assert 5 * TICKS_PER_SECOND <= len(script.actions) <= 30 * TICKS_PER_SECOND
        np.testing.assert_array_equal(check_vectors(script.actions, (len(script.actions), ACTION_SIZE)), script.actions)


def test_full_turn_comes_back_exactly():
    yaw = np.float32(0)
    for step in load_script("full_turn").actions[:, YAW]:
        yaw += step  # float32, as the narrowest world would add it up
    assert yaw == 360


@pytest.mark.parametrize(("degrees", "ticks"), [(90, 7), (360, 160), (-33.3, 9), (100 / 3, 11), (0.001, 4), (210, 7)])
def test_a_turn_is_even_and_sums_to_its_degrees(degrees: float, ticks: int):
    turn = spread_turn(degrees, ticks)
    assert turn.dtype == np.float32 and turn.shape == (ticks,)
    assert turn.sum(dtype=np.float64) == pytest.approx(degrees, abs=1e-7)
    assert np.abs(turn - degrees / ticks).max() <= 2 / 1024
    assert np.abs(turn).max() <= CAMERA_LIMIT


def test_a_step_combines_keys_camera_and_time():
    text = """
    about: example
    steps:
      - wait: 1s
      - hold: forward + jump
        turn: left 90
        look: down 30
        for: 1.5s
      - {hold: dig, for: 2 chunks}
      - press: place
      - select: 3
    """
    script = parse_script(text)
    actions = script.actions
    assert script.about == "example"
    assert actions.shape == (20 + 30 + 8 + 1 + 1, ACTION_SIZE) and actions.dtype == np.float32
    assert not actions[:20].any()
    assert held(actions, "forward") == held(actions, "jump") == list(range(20, 50))
    assert actions[20:50, YAW].sum() == -90 and actions[20:50, PITCH].sum() == 30
    assert held(actions, "attack") == list(range(50, 58))
    assert held(actions, "use") == [58] and held(actions, "hotbar.3") == [59]


@pytest.mark.parametrize(
    ("duration", "ticks"),
    [("2s", 40), ("2 s", 40), ("1.5", 30), ("250ms", 5), ("8 ticks", 8), ("1 tick", 1), ("4 chunks", 24), (".5s", 10)],
)
def test_durations(duration: str, ticks: int):
    assert len(parse_script(f"- wait: {duration}", chunk=6).actions) == ticks


def test_repeats_nest():
    text = "- repeat: 3\n  steps:\n  - {turn: right 30, for: 2 ticks}\n  - {repeat: 2, steps: [press: jump]}"
    actions = parse_script(text).actions
    assert len(actions) == 12
    assert held(actions, "jump") == [2, 3, 6, 7, 10, 11]
    assert actions[:, YAW].sum() == 90


def test_a_turn_without_time_moves_at_a_calm_speed():
    assert len(parse_script("- turn: right 90").actions) == 20


def test_the_same_text_gives_the_same_bits():
    assert load_script("tour").actions.tobytes() == load_script("tour").actions.tobytes()


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("", "1:1", "empty"),
        ("[", "1:2", "not valid YAML"),
        ("-\twait: 1s", "1:2", "not valid YAML"),
        ("- wait: 1\n---\n- wait: 1", "2:1", "not valid YAML"),
        ("- wait: 1s\n- hold: *x", "2:9", "undefined alias"),
        ("5", "1:1", "must be a list"),
        ("steps: {wait: 1s}", "1:8", "must be a list"),
        ("steps: []", "1:8", "empty"),
        ("about: hello", "1:1", "no steps"),
        ("- wait", "1:3", "key: value"),
        ("- {}", "1:3", "empty"),
        ("- wait: 1s\n- trun: left 90", "2:3", "did you mean 'turn'"),
        ("- hold: forwad\n  for: 1s", "1:9", "did you mean 'forward'"),
        ("- hold: [forward]\n  for: 1s", "1:9", "plain text"),
        ("- hold: forward", "1:9", "needs a time"),
        ("- for: 2s", "1:3", "alone"),
        ("- wait: 3 parsecs", "1:9", "unknown unit 'parsecs'"),
        ("- wait: -1s", "1:9", "negative"),
        ("- wait: 0", "1:9", "less than one tick"),
        ("- wait: soon", "1:9", "must be a time"),
        ("- {wait: 1s, wait: 2s}", "1:14", "twice"),
        ("- {wait: 1s, hold: jump}", "1:20", "step of its own"),
        ("- turn: 90", "1:9", "left 90"),
        ("- turn: left 2 rad", "1:9", "unknown unit 'rad'"),
        ("- turn: left -90", "1:9", "turn: right 90"),
        ("- {turn: left 90, for: 2 ticks}", "1:10", "at least 0.15s"),
        ("- select: 10", "1:11", "from 1 to 9"),
        ("- repeat: 2", "1:3", "needs both"),
        ("- {repeat: 0, steps: [wait: 1s]}", "1:12", "whole number"),
        ("- {repeat: 999, steps: [wait: 1s]}", "1:12", "longer than"),
        ("- wait: " + "9" * 400, "1:9", "longer than"),
        ("steps: &a [{repeat: 2, steps: *a}]", "1:8", "nested too deeply"),
    ],
)
def test_a_malformed_script_names_place_and_reason(text: str, where: str, reason: str):
    with pytest.raises(UserError) as caught:
        parse_script(text, source="my.yaml")
    message = str(caught.value)
    assert message.startswith(f"my.yaml:{where}: ") and reason in message and "\n" not in message


@pytest.mark.parametrize("text", ["[" * 5000, "- wait: \x00"])
def test_hostile_text_is_refused_in_one_line(text: str):
    with pytest.raises(UserError, match=r"^script\.yaml: .*") as caught:
        parse_script(text)
    assert "\n" not in str(caught.value)


def test_nested_aliases_cannot_blow_up():
    lines = ["- &a0 {wait: 10 ticks}"]
    lines += [f"- {{repeat: 9, steps: [&a{i} {{repeat: 9, steps: [*a{i - 1}]}}]}}" for i in range(1, 7)]
    with pytest.raises(UserError, match="longer than"):
        parse_script("\n".join(lines))
    assert MAX_TICKS < 10**5


def test_files_are_found_or_named(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("- wait: 1s")
    assert load_script(path).name == "mine"
    with pytest.raises(UserError, match="one of .*tour"):
        load_script("tuor")
    with pytest.raises(UserError, match="cannot read script .*missing.yaml"):
        load_script(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot read script"):
        load_script(f"{tmp_path}/")
    path.write_bytes(b"- wait: \xff")
    with pytest.raises(UserError, match="UTF-8"):
        load_script(path)
