from pathlib import Path

import numpy as np
import pytest

from latentcraft.agents.script import bundled_scripts, load_script, parse_script
from latentcraft.agents.script_steps import spread_turn
from latentcraft.agents.script_values import MAX_TICKS
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


def test_parameters_fill_in_any_value():
    text = """
    params: {distance: 2s, side: left, angle: 30, key: jump, times: 2}
    steps:
      - {hold: forward + $key, turn: $side $angle, for: $distance}
      - {repeat: $times, steps: [press: $key]}
    """
    script = parse_script(text)
    assert len(script.actions) == 42 and script.actions[:, YAW].sum() == -30 and script.params["times"] == "2"
    script = parse_script(text, params={"distance": "3 chunks", "side": "right", "angle": 45.5, "times": 3}, chunk=6)
    assert len(script.actions) == 21 and script.actions[:, YAW].sum() == 45.5
    assert held(script.actions, "jump") == list(range(21))
    with pytest.raises(UserError, match=r"my.yaml has no parameter 'distnce'; did you mean 'distance'\?"):
        parse_script(text, source="my.yaml", params={"distnce": "1s"})
    with pytest.raises(UserError, match=r"^script.yaml:4:.* \(with \$distance = 'far'\)$"):
        parse_script(text, params={"distance": "far"})


def test_a_parameter_without_default_must_be_given():
    text = "params: {time: }\nsteps: [wait: $time]"
    assert len(parse_script(text, params={"time": 2}).actions) == 40
    with pytest.raises(UserError, match="needs the parameter 'time'; give params.time=VALUE"):
        parse_script(text)


def test_named_scripts_take_parameters_and_know_the_files_own():
    text = """
    params: {key: jump}
    scripts:
      tap:
        params: {ticks: 1, other: $key}
        steps:
          - {hold: $key + $other, for: $ticks ticks}
          - run: rest
      rest:
        - wait: 2 ticks
    steps:
      - run: tap
      - {run: tap, with: {ticks: 3, other: sneak}}
    """
    actions = parse_script(text, params={"key": "sprint"}).actions
    assert len(actions) == 1 + 2 + 3 + 2
    assert held(actions, "sprint") == [0, 3, 4, 5] and held(actions, "sneak") == [3, 4, 5]


def test_other_files_and_bundled_scripts_can_be_run(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "dig.yaml").write_text(
        "params: {t: 1s}\nseed: 4\nsteps: [{hold: dig, for: $t}, run: ../hop.yaml]"
    )
    (tmp_path / "hop.yaml").write_text("- press: jump")
    main = tmp_path / "main.yaml"
    main.write_text("- {run: parts/dig.yaml, with: {t: 2 ticks}}\n- run: full_turn\n- run: parts/dig.yaml")
    script = load_script(main)
    turn = load_script("full_turn").actions
    assert held(script.actions, "attack") == [0, 1, *range(3 + len(turn), 23 + len(turn))]
    np.testing.assert_array_equal(script.actions[3 : 3 + len(turn)], turn)
    assert script.seed == 0  # that of a script that is run says nothing here
    # A mistake in a part is shown where it is; a circle where it closes.
    (tmp_path / "hop.yaml").write_text("- wait: 1s\n- pres: jump")
    with pytest.raises(UserError, match=r"hop.yaml:2:3: unknown key 'pres'; did you mean 'press'"):
        load_script(main)
    (tmp_path / "hop.yaml").write_text("- run: hop.yaml")
    with pytest.raises(UserError, match=r"hop.yaml:1:8: .*hop.yaml would run itself"):
        load_script(main)


def test_chance_is_decided_by_the_seed():
    text = """
    seed: 3
    steps:
      - repeat: 4 to 6
        steps:
          - {hold: forward, turn: either 10 to 40, for: 1 to 2s}
          - choose:
              - {hold: jump, for: 0.5s}
              - [{look: down 30}, {hold: dig, for: 2 to 3 chunks}]
          - select: 1 to 9
    """
    assert parse_script(text).seed == 3
    assert parse_script(text).actions.tobytes() == parse_script(text, seed=3).actions.tobytes()
    played = [parse_script(text, seed=seed).actions for seed in range(40)]
    assert len({actions.tobytes() for actions in played}) == 40
    for actions in played:
        np.testing.assert_array_equal(check_vectors(actions, actions.shape), actions)
    slots = {slot for slot in range(1, 10) for actions in played if held(actions, f"hotbar.{slot}")}
    assert slots == set(range(1, 10))
    # Both sides and both branches come up, and every pass draws anew.
    first = [actions[0, YAW] > 0 for actions in played]
    assert 5 < sum(first) < 35
    jumps = [bool(held(actions, "jump")) and bool(held(actions, "attack")) for actions in played]
    assert sum(jumps) > 20


def test_a_range_is_drawn_from_up_to_both_ends():
    lengths = {len(parse_script("- wait: 2 to 4 ticks", seed=seed).actions) for seed in range(60)}
    assert lengths == {2, 3, 4}
    turned = [parse_script("- turn: right 10 to 20", seed=seed).actions[:, YAW].sum() for seed in range(60)]
    assert 10 <= min(turned) < 12 and 18 < max(turned) <= 20


def test_the_sequence_of_draws_never_changes():
    # Whoever wrote a script with a seed counts on it: these draws may not change between versions.
    actions = parse_script("seed: 1\nsteps: [{turn: either 10 to 90, for: 1s to 9s}, {wait: 1 to 9 ticks}]").actions
    assert (len(actions), float(actions[:, YAW].sum())) == (145, -77.794921875)


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
        ("- hold: forward for: 2s", "1:20", "one `key: value` a line"),
        ("- hold: forward + jmp\n  for: 1s", "1:19", "did you mean 'jump'"),
        ("- hold: w + space\n  for: 1s", "1:9", "did you mean 'forward'"),
        ("- sleep: 2s", "1:3", "did you mean 'wait'"),
        ("- wait: 2 secnds", "1:9", "did you mean 'seconds'"),
        ("- wait: 3s to 1s", "1:9", "smaller one first"),
        ("- wait: 1s to soon", "1:9", "must be a time"),
        ("- turn: lft 90", "1:9", "did you mean 'left'"),
        ("- turn: left 60 to 30", "1:9", "smaller one first"),
        ("- {turn: left 10 to 90, for: 2 to 4 ticks}", "1:10", "at least 0.15s"),
        ("- {repeat: 1 to 999, steps: [wait: 1s]}", "1:12", "longer than"),
        ("- choose: [{wait: 1s}]", "1:11", "two steps or more"),
        ("- {choose: [{wait: 1s}, {wait: 2s}], hold: jump}", "1:44", "step of its own"),
        ("- choose: [{wait: 1s}, {wait: 1 tonne}]", "1:31", "unknown unit"),
        ("- choose: [{wait: 1s}, {wait: 700s}]", "1:31", "longer than"),
        ("steps: &a [{choose: [*a, *a]}]", "1:21", "nested too deeply"),
        ("- wait: $time", "1:9", "params: {time: 2s}"),
        ("params: {time: 2s}\nsteps:\n- wait: $tine", "3:9", "did you mean 'time'"),
        ("params: {time: soon}\nsteps:\n- wait: $time", "3:9", "(with $time = 'soon')"),
        ("params: {a b: 1}\nsteps: [wait: 1s]", "1:15", "cannot name a parameter"),
        ("params: [time]\nsteps: [wait: 1s]", "1:9", "names with values"),
        ("params: {a: [1]}\nsteps: [wait: 1s]", "1:13", "plain text"),
        ("params: {a: 1, a: 2}\nsteps: [wait: 1s]", "1:16", "given twice"),
        ('- wait: "-1\\n s"', "1:9", "negative (-1 s)"),
        ("seed: -1\nsteps: [wait: 1s]", "1:7", "whole number"),
        ("seed: 1 to 2\nsteps: [wait: 1s]", "1:7", "one number"),
        ("paramas: {}\nsteps: [wait: 1s]", "1:1", "did you mean 'params'"),
        ("- run: chop", "1:8", "no script 'chop' to run"),
        ("scripts: {chop: [wait: 1s]}\nsteps: [run: chp]", "2:14", "did you mean 'chop'"),
        ("- run: full_trun", "1:8", "did you mean 'full_turn'"),
        ("- run: nowhere/x.yaml", "1:8", "cannot read script 'nowhere/x.yaml'"),
        ("- {run: tour, for: 2s}", "1:20", "step of its own"),
        ("- with: {a: 1}", "1:3", "add `run: SCRIPT`"),
        ("- {run: full_turn, with: {speed: 1}}", "1:9", "full_turn has no parameter 'speed'; it takes none"),
        ("- repeat: 60\n  steps: [run: tour]", "1:11", "longer than"),
        ("scripts: {a: [run: b], b: [run: a]}\nsteps: [wait: 1s]", "1:33", "a would run itself (a runs b runs a)"),
        ("scripts: {a: {params: {t: }, steps: [wait: $t]}}\nsteps: [run: a]", "2:14", "with: {t: VALUE}"),
        ("scripts: {a: {about: x}}\nsteps: [run: a]", "1:14", "'a' has no steps"),
        ("scripts: {a: [hop: 1s]}\nsteps: [wait: 1s]", "1:15", "unknown key 'hop'"),
        (
            "params: {p: 1s}\nscripts: {a: {params: {t: 1s}, steps: [wait: $t]}}\nsteps: [wait: $t]",
            "3:15",
            "no parameter $t here; known: p",
        ),
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


def test_many_small_aliases_cannot_blow_up_either():
    lines = ["scripts:", "  a0: &a0 [press: jump]"]
    lines += [f"  a{i}: [{', '.join([f'{{run: a{i - 1}}}'] * 9)}]" for i in range(1, 8)]
    with pytest.raises(UserError, match="longer than"):
        parse_script("\n".join([*lines, "steps: [run: a7]"]))
    branches = "&b0 {press: jump}"
    for i in range(1, 9):
        branches = f"&b{i} {{choose: [{branches}, {', '.join([f'*b{i - 1}'] * 8)}]}}"
    with pytest.raises(UserError, match="are written here|nested too deeply"):
        parse_script(f"- {branches}")


def test_parameters_of_parameters_cannot_blow_up():
    lines = ["params: {a: 11111111}", "scripts:", "  s0: {params: {b: 1s}, steps: [wait: 1s]}"]
    for i in range(1, 7):
        b = "$b" * 20
        lines.append(f"  s{i}: {{params: {{b: $a}}, steps: [{{run: s{i - 1}, with: {{b: {b}}}}}]}}")
    with pytest.raises(UserError, match="letters long; at most 1000"):
        parse_script("\n".join([*lines, "steps: [run: s6]"]))


def test_files_are_found_or_named(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("- wait: 1s")
    assert load_script(path).name == "mine"
    with pytest.raises(UserError, match="did you mean 'tour'.*one of .*tour"):
        load_script("tuor")
    with pytest.raises(UserError, match="cannot read script .*missing.yaml"):
        load_script(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot read script"):
        load_script(f"{tmp_path}/")
    path.write_bytes(b"- wait: \xff")
    with pytest.raises(UserError, match="UTF-8"):
        load_script(path)
