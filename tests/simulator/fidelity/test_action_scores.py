"""Scores of read actions, on cases with known answers."""

import math

import numpy as np
import pytest

from latentcraft.model.actions import BUTTON_INDEX, PITCH, YAW, noop
from latentcraft.simulator.fidelity.action_scores import (
    button_counts,
    camera_bins,
    camera_errors,
    group_counts,
    group_labels,
    group_scores,
    macro,
    mineworld_figures,
    score_figures,
    scores,
    split_actions,
)
from latentcraft.simulator.fidelity.inverse_dynamics import READ_BUTTONS, Reading

FORWARD, BACK, LEFT, RIGHT = (BUTTON_INDEX[name] for name in ("forward", "back", "left", "right"))


def some_actions(games: int = 6, ticks: int = 80, seed: int = 0) -> np.ndarray:
    """Every button is held now and then, never with its opposite; the camera turns half the time."""
    rng = np.random.default_rng(seed)
    actions = noop(games, ticks)
    for one, other in (("forward", "back"), ("left", "right"), ("sneak", "sprint")):
        choice = rng.choice(3, p=(0.4, 0.4, 0.2), size=(games, ticks))
        actions[..., BUTTON_INDEX[one]], actions[..., BUTTON_INDEX[other]] = choice == 1, choice == 2
    for name in ("jump", "attack", "use"):
        actions[..., BUTTON_INDEX[name]] = rng.random((games, ticks)) < 0.3
    actions[..., PITCH:] = rng.normal(0, 4, (games, ticks, 2)) * (rng.random((games, ticks, 1)) < 0.5)
    return actions


def as_read(actions: np.ndarray) -> list[Reading]:
    return [Reading(*split_actions(game)) for game in actions]


def test_a_perfect_reading_scores_one_in_both_ways_of_counting():
    actions = some_actions()
    figures = score_figures(as_read(actions), actions) | mineworld_figures(as_read(actions), actions)
    for key, figure in figures.items():
        expected = 0.0 if "camera" in key else 1.0
        assert (figure.value, figure.low, figure.high) == (expected, expected, expected), key
        assert figure.count == len(actions)


def test_shuffled_actions_score_as_poorly_as_they_are():
    actions = some_actions(games=8, ticks=200)
    shuffled = as_read(np.roll(actions, 1, axis=0))
    ours, theirs = score_figures(shuffled, actions), mineworld_figures(shuffled, actions)
    chance = np.mean([actions[..., k].mean() for k in range(len(READ_BUTTONS))])
    assert ours["f1"].value == pytest.approx(chance, abs=0.03)  # F1 of a guess at the true rate is that rate
    assert ours["f1"].low < chance + 0.02 < 0.5
    assert theirs["mineworld_f1"].value < 0.55  # "none" counts as a class there, so chance is higher
    assert ours["camera_mean"].value > 3 and theirs["mineworld_camera"].value > 1


def test_counts_and_scores_by_hand():
    read = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    held = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool)
    counts = button_counts(read, held)
    assert counts.tolist() == [[2, 1, 1], [0, 0, 0]]
    precision, recall, f1 = scores(counts)
    assert (precision[0], recall[0], f1[0]) == (2 / 3, 2 / 3, 2 / 3)
    assert np.isnan([precision[1], recall[1], f1[1]]).all()  # never held, never read: nothing to say
    assert macro(f1) == f1[0] and math.isnan(macro(f1[1:]))


def test_false_alarms_of_a_button_nobody_held_do_not_change_what_the_mean_is_of():
    actions = noop(3, 20)
    actions[:, ::2, FORWARD] = 1
    played = as_read(actions)
    played[0].held[3, LEFT] = True
    figures = score_figures(played, actions)
    assert figures["f1"].value == figures["button_f1@forward"].value == 1
    assert math.isnan(figures["button_precision@left"].value)


def test_nothing_read_where_something_was_held_scores_zero_and_does_not_drop_out():
    precision, recall, f1 = scores(np.array([0, 0, 5]))
    assert (precision, recall, f1) == (0, 0, 0)


def test_camera_errors_are_lengths_in_degrees_told_apart_by_whether_it_should_turn():
    turned = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -5.0]])
    read = np.array([[0.0, 0.0], [0.6, 0.8], [0.0, -4.0]])
    moving, resting = camera_errors(read, turned)
    assert moving == pytest.approx([5.0, 1.0]) and resting == pytest.approx([1.0])


def test_opposite_buttons_are_one_class_and_cancel_each_other():
    held = np.zeros((4, len(READ_BUTTONS)), bool)
    held[1, BACK] = held[2, FORWARD] = held[3, FORWARD] = held[3, BACK] = True
    assert group_labels(held)[:, 0].tolist() == [0, 1, 2, 0]
    assert not group_labels(held)[:, 1:].any()


def test_group_scores_are_macro_averages_over_classes_then_groups():
    """By hand: forward/back has classes none, back and forward; the other five groups hold "none" only."""
    held, read = (np.zeros((6, len(READ_BUTTONS)), bool) for _ in range(2))
    held[[0, 1, 2], FORWARD] = True
    read[[0, 1], FORWARD] = True  # tick 2 is read as none
    held[3, BACK] = read[3, BACK] = True  # ticks 4 and 5 are none in both
    precision, recall, f1 = group_scores(group_counts(read, held))
    ways = np.array([[2 / 3, 1, 1], [1, 1, 2 / 3], [0.8, 1, 0.8]])  # precision, recall, F1 of none, back, forward
    expected = (ways.mean(1) + 5) / 6
    assert (precision, recall, f1) == pytest.approx(tuple(expected))


def test_camera_bins_are_vpts():
    angles = np.array([0.0, 1.0, -1.0, 10.0, -10.0, 25.0, 0.1, 5.0])
    assert camera_bins(angles).tolist() == [5, 6, 4, 10, 0, 10, 5, 9]


def test_games_of_different_length_and_without_turns_are_counted():
    actions = some_actions(games=2)
    still = actions.copy()
    still[..., PITCH:] = 0
    figures = score_figures(as_read(still), [still[0], still[1][:80]])
    assert math.isnan(figures["camera_mean"].value) and figures["camera_rest"].value == 0
    uneven = [actions[0], actions[1][:30]]
    assert score_figures([Reading(*split_actions(game)) for game in uneven], uneven)["f1"].value == 1


def test_a_wrong_sign_of_the_yaw_is_twice_the_turn():
    actions = noop(2, 10)
    actions[..., YAW] = 6
    mirrored = actions.copy()
    mirrored[..., YAW] = -6
    assert score_figures(as_read(mirrored), actions)["camera_median"].value == pytest.approx(12)
