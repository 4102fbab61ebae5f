"""Persistence: the cases are what they claim to be, and worlds that keep, forget or invent score as they should."""

import numpy as np
import pytest

from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.fidelity.adapters import CopyLastWorld, ForgetfulWorld
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.persistence import (
    PERSISTENCE_COLUMNS,
    PersistencePlan,
    common_ticks,
    judge,
    matched,
    nearness,
    persistence_study,
    play_cases,
)
from latentcraft.simulator.fidelity.persistence_cases import (
    KINDS,
    find_case,
    find_cases,
    lead_ticks,
    look_ticks,
    seen_change,
    tail_ticks,
)
from latentcraft.simulator.fidelity.pictures import smooth
from latentcraft.simulator.fidelity.pose import PoseFitter
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.blocks import AIR, HOTBAR
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (96, 160)
PLAN = PersistencePlan(games=4, gaps=(0.5, 1.0))


@pytest.fixture(scope="module")
def cases():
    return PLAN.cases(SIZE, 4)


@pytest.fixture(scope="module")
def fitter():
    return PoseFitter(SIZE, samples=16)


def test_cases_dig_and_place_in_turn_and_the_same_each_time(cases):
    assert [case.kind for case in cases] == [*KINDS, *KINDS]
    assert len({case.seed for case in cases}) == 4 and min(case.seed for case in cases) >= HELD_OUT_SEED
    again = find_case(cases[1].seed, "place", (10, 20), SIZE, 4)
    np.testing.assert_array_equal(again.lead, cases[1].lead)
    np.testing.assert_array_equal(again.away[20], cases[1].away[20])
    assert find_cases(PLAN.first_seed, 4, (10, 20), SIZE, 4) is cases


def test_a_case_changes_one_block_in_sight(cases):
    for case in cases:
        game = Reference(case.seed)
        before = game.block(case.cell)
        game.play(case.look)
        assert len(case.look) == look_ticks(4) == 16 and not game.game.edits
        assert seen_change(game, SIZE, {case.cell: AIR if before else HOTBAR[0]}).any(), "it is looked at first"
        assert case.look[-4:].any() == 0
        game.play(case.lead)
        assert len(case.lead) == lead_ticks(4) == 24 and before == case.before != game.block(case.cell)
        assert list(game.game.edits) == [game.flat(case.cell)]
        assert seen_change(game, SIZE, {case.cell: case.before}).mean() >= 0.02
        assert all(cell != case.cell and game.block(cell) != block for cell, block in case.phantoms)
        assert all(seen_change(game, SIZE, {cell: block}).mean() >= 0.02 for cell, block in case.phantoms)


def test_the_place_is_out_of_sight_for_just_the_time(cases):
    for case in cases:
        for gap, actions in case.away.items():
            game, hidden = case.after.fork(), []
            view = game.pose
            assert len(actions) == tail_ticks(gap, 4) and not actions[-4:].any()
            for action in actions:
                game.play(action[None])
                hidden.append(not seen_change(game, SIZE, {case.cell: case.before}).any())
            assert sum(hidden) == gap and "".join(map(str, map(int, hidden))).strip("0").count("0") == 0
            np.testing.assert_allclose(game.pose, view, atol=1e-4)


def test_moments_to_save_are_ends_of_chunks():
    case = find_case(HELD_OUT_SEED, "dig", (10,), SIZE, 6)
    assert len(case.look) == 18 and len(case.lead) == 24 and len(case.away[10]) % 6 == 0


def test_looks_away_begin_alike_and_branch_off_where_they_turn_back(cases):
    for case in cases[:2]:
        short, long = case.away[10][None], case.away[20][None]
        same = common_ticks(short, long, 4)
        assert same >= 8 and same % 4 == 0 and (short[:, :same] == long[:, :same]).all()
    longer = find_case(cases[0].seed, "dig", (60, 200), SIZE, 4)
    assert common_ticks(longer.away[60][None], longer.away[200][None], 4) > 40, "all but the way back is shared"
    assert common_ticks(short, short, 4) == short.shape[1] - 4, "the last chunk is looked at"


def test_branching_shows_what_playing_each_from_the_start_shows(cases):
    world = VoxelWorld(len(cases), "free", (32, 48))
    frames = play_cases(world, cases, (10, 20))
    for number, gap in enumerate((10, 20), 1):
        world.reset([Start(seed=case.seed, lead=case.look) for case in cases])
        actions = np.stack([np.concatenate([case.lead, case.away[gap]]) for case in cases])
        for tick in range(0, actions.shape[1], 4):
            last = world.step(actions[:, tick : tick + 4]).frames[:, -1]
        assert (frames[:, number] == last).all()


def figures_of(make, plan=PLAN):
    return persistence_study(Subject("test", make), plan)


def test_the_reference_keeps_everything():
    figures = figures_of(lambda games, task: VoxelWorld(games, task))
    assert set(figures) == {column.key for column in PLAN.columns()}
    for key in ("edit@0s", "edit@0.5s", "edit@1s", "untouched@1s", "shown@1s", "dug", "placed"):
        assert figures[key].value == 100, key
    assert figures["edit@1s"].count == 4 and figures["dug"].count == 2 and figures["edit@1s"].low < 60
    assert figures["edit_certainty"].value > 95 and figures["untouched_certainty"].value > 95


def test_a_world_that_forgets_keeps_only_what_was_always_there():
    figures = figures_of(lambda games, task: ForgetfulWorld(VoxelWorld(games, task), after=12))
    assert figures["edit@0s"].value == 100
    assert figures["edit@0.5s"].value == figures["edit@1s"].value == figures["dug"].value == 0
    assert figures["untouched@1s"].value == figures["shown@1s"].value == 100
    assert figures["edit_certainty"].value < -95 < 90 < figures["untouched_certainty"].value


def test_a_frozen_view_shows_the_place_and_no_change():
    figures = figures_of(lambda games, task: CopyLastWorld(VoxelWorld(games, task)))
    assert figures["shown@0.5s"].value == figures["untouched@0.5s"].value == 100
    assert figures["edit@0s"].value == figures["edit@1s"].value == 0
    assert figures["edit_certainty"].value < -90


def test_a_dream_is_judged_the_same_twice(tiny_checkpoint):
    plan = PersistencePlan(2, (0.5,))

    def make(games, task):
        return DreamWorld(num_worlds=games, task=task, checkpoint=tiny_checkpoint, steps=1)

    once, twice = figures_of(make, plan), figures_of(make, plan)
    assert once == twice and once["shown@0.5s"].count == 2


@pytest.mark.parametrize("spoil", ["sharp", "blurred", "darker", "turned"])
def test_verdicts_hold_for_frames_as_dreams_show_them(cases, fitter, spoil):
    def shown(game, edits):
        x, y, z, yaw, pitch = game.pose
        pose = (x, y, z, yaw + 5.0, pitch - 3.0) if spoil == "turned" else None
        frame = game.draw(SIZE, pose, edits).astype(np.float32)
        if spoil == "blurred":
            frame = smooth(frame, 6) + np.random.default_rng(0).normal(0, 10, frame.shape)
        if spoil == "darker":
            frame = frame - 25
        return np.clip(frame, 0, 255).astype(np.uint8)

    for case in cases[1:2]:
        game = case.after.fork()
        game.play(case.away[20])
        gone, added = case.phantoms
        true = judge(fitter, case, 20, shown(game, {}))
        assert true.shown and true.edit > 0.4 and min(true.untouched) > 0.4
        forgotten = judge(fitter, case, 20, shown(game, {case.cell: case.before}))
        assert forgotten.edit < -0.4 and min(forgotten.untouched) > 0.3
        invented = judge(fitter, case, 20, shown(game, dict([added])))
        assert invented.untouched[1] < -0.4 and invented.edit > 0.3 and invented.untouched[0] > 0.3
        vanished = judge(fitter, case, 20, shown(game, dict([gone])))
        assert vanished.untouched[0] < -0.4 and vanished.edit > 0.3


def test_a_view_of_something_else_keeps_nothing(cases, fitter):
    case = cases[0]
    game = case.after
    mush = np.random.default_rng(0).uniform(20, 110, (12, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    assert not judge(fitter, case, 0, mush).shown
    x, y, z, yaw, _ = game.pose
    assert not judge(fitter, case, 0, game.draw(SIZE, (x, y, z, yaw + 120, -30.0))).shown
    plain = judge(fitter, case, 0, smooth(game.draw(SIZE).astype(np.float32), 200).astype(np.uint8))
    assert plain.shown  # no detail is left, but it is the right lawn


def test_nearness_of_the_two_pictures_and_of_what_lies_between(cases):
    case = cases[0]
    game, edits = case.after, {case.cell: case.before}
    true, false = game.draw(SIZE), game.draw(SIZE, edits=edits)
    around = ~seen_change(game, SIZE, edits)
    assert nearness(game, true, game.pose, edits, around) == pytest.approx(1, abs=0.02)
    assert nearness(game, false, game.pose, edits, around) == pytest.approx(-1, abs=0.02)
    between = ((true.astype(int) + false) // 2).astype(np.uint8)
    assert nearness(game, between, game.pose, edits, around) == pytest.approx(0, abs=0.05)


def test_colours_are_matched_outside_of_what_is_asked():
    like = np.random.default_rng(0).uniform(0, 200, (8, 8, 3))
    mask = np.ones((8, 8), bool)
    mask[:4] = False
    frame = like + 20
    frame[:4] = 0
    np.testing.assert_allclose(matched(frame, like, mask)[4:], like[4:])
    np.testing.assert_allclose(matched(frame, like, mask)[:4], -20)
    assert matched(frame, like, np.zeros((8, 8), bool)) is frame


def test_plans_and_columns():
    keys = [column.key for column in PERSISTENCE_COLUMNS]
    assert len(set(keys)) == len(keys) and {"edit@0.5s", "edit@10s", "untouched@3s"} <= set(keys)
    assert {column.key for column in PersistencePlan.quick().columns()} < set(keys)
    assert PersistencePlan.quick(7).first_seed == 7 and PersistencePlan.full() == PersistencePlan.full()
