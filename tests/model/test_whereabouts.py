"""Where goals stand: found in recordings, told by pictures, seen from anywhere, and what the way to them pays."""

import math

import numpy as np
import pytest
import torch

from latentcraft.model.blockmap import FACES
from latentcraft.model.blockrays import TEXELS
from latentcraft.model.completion import CompletionConfig, CompletionNet
from latentcraft.model.memory import Memory
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.outcomes import Outcomes, expected_reward
from latentcraft.model.place import Place
from latentcraft.model.standing import BASE, SHAPE, Goal
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.model.train import goal_search
from latentcraft.model.train.goal_search import (
    Pictures,
    Searched,
    _Game,
    _kind_of_goals,
    _pay_of,
    _place_of,
    _shape_of,
)
from latentcraft.model.train.whereabouts import (
    WhereaboutsStage,
    WhereaboutsStageConfig,
    answers,
    sharpened,
)  # fmt: skip
from latentcraft.model.whereabouts import (
    Told,
    WhereaboutsConfig,
    WhereaboutsNet,
    as_filmed,
    bearing,
    cell_at,
    distances_on_ground,
    likeliest_cell,
)  # fmt: skip

SHAPED, CHOP = TASK_INDEX["navigate-shaped"], TASK_INDEX["chop"]
GOAL, GROUND = 9, 3
SMALL = WhereaboutsConfig(width=8, columns=16)


def pillar(height: int = 6) -> np.ndarray:
    shape = np.zeros(SHAPE, np.bool_)
    shape[BASE[0], BASE[1] : BASE[1] + height, BASE[2]] = True
    return shape


def looks(colour: tuple[float, float, float] = (1.0, 0.2, 0.8)) -> Goal:
    palette = np.ones((FACES, TEXELS, TEXELS, 3), np.float32) * np.array(colour, np.float32)
    return Goal.of(pillar(), palette, 0.0)


def ahead_of(eye: np.ndarray, away: float, higher: float = -1.62) -> np.ndarray:
    return cell_at(eye, 0.0, away, higher)


EYE = np.array([0.5, 5.62, 0.5, 0.0, 0.0])


def test_a_goal_is_seen_where_it_stands_and_nowhere_else():
    memory, goal = Memory((96, 160), field_of_view=70.0), looks()
    cell = ahead_of(EYE, 10)
    met, _ = goal.cast(cell, EYE, memory.rays, memory.focal)
    there = np.isfinite(met)
    np.testing.assert_allclose(met[there].min(), 9.5, atol=0.02)  # its face is half a metre nearer than its middle
    columns = np.flatnonzero(there.any(0))
    wide = memory.focal / 9.5
    assert abs(len(columns) - wide) <= 1 and abs(columns.mean() - 79.5) < 0.6
    rows = np.flatnonzero(there.any(1))
    feet = 48 + memory.focal * 1.62 / 9.5
    assert abs(rows.max() + 1 - feet) <= 1 and rows.min() < 20
    behind = EYE + np.array([0, 0, 0, 180.0, 0])
    assert not np.isfinite(goal.cast(cell, behind, memory.rays, memory.focal)[0]).any()
    aside = EYE - np.array([0, 0, 0, 20.0, 0])  # looking left, it is to the right
    there = np.isfinite(goal.cast(cell, aside, memory.rays, memory.focal)[0])
    assert np.flatnonzero(there.any(0)).mean() > 110


def test_it_is_drawn_over_what_is_behind_it_and_hidden_by_what_is_before():
    memory, goal = Memory((96, 160), field_of_view=70.0), looks()
    cell = ahead_of(EYE, 10)
    there = np.isfinite(goal.cast(cell, EYE, memory.rays, memory.focal)[0])
    for known, shown in ((np.inf, True), (20.0, True), (9.4, True), (5.0, False)):
        view = memory.view(EYE)
        view.distance[:] = known
        goal.show(view, cell, EYE, memory.rays, memory.focal, np.full(3, 0.25))
        assert bool(view.mapped.any()) == shown
        if shown:
            np.testing.assert_array_equal(view.mapped, there)
            assert (view.picture[there] == [255, 51, 204]).all()  # it glows: the light is nothing to it
            assert (view.distance[there] < 12).all() and view.known[there].all()


def test_pictures_make_room_for_it():
    memory, goal = Memory((96, 160), field_of_view=70.0), looks()
    memory.remember(np.full((96, 160, 3), 90, np.uint8), np.full((96, 160), 11.0, np.float32), EYE)
    near = np.full((96, 160), 4.0, np.float32)
    memory.remember(np.full((96, 160, 3), 200, np.uint8), near, EYE + np.array([0, 0, 0, 180.0, 0]))
    cell = ahead_of(EYE, 10)
    there = np.isfinite(goal.cast(cell, EYE, memory.rays, memory.focal)[0])
    before = memory.own.copy()
    goal.give_room(memory, cell)
    gone = before[0] & ~memory.own[0]
    assert gone[there].all() and gone.sum() < 1.5 * there.sum()
    np.testing.assert_array_equal(memory.own[1], before[1])


def test_a_place_keeps_its_goal_and_shows_it():
    place = Place((96, 160), 70.0, goal=looks())
    place.begin(EYE)
    assert not place.view(EYE).known.any()
    place.set_goal(ahead_of(EYE, 8))
    assert place.view(EYE).mapped.any()
    other = Place((96, 160), 70.0, goal=looks())
    other.restore(place.save())
    np.testing.assert_array_equal(other.goal, place.goal)
    np.testing.assert_array_equal(other.view(EYE).picture, place.view(EYE).picture)
    place.forget()
    assert place.goal is None and "goal" not in place.save()


def told_by(net: WhereaboutsNet, sure: list[float], column: int, away: float, rise: float) -> None:
    """Let the net tell of each picture that the goal is in a column with such a chance."""

    def forward(pictures: torch.Tensor, pitches: torch.Tensor) -> Told:
        columns = pictures.shape[3] // 4
        chances = torch.full((len(sure), columns + 1), 1e-6)
        chances[:, column], chances[:, -1] = torch.tensor(sure), 1 - torch.tensor(sure)
        place = torch.zeros(len(sure), 3, 2, columns)
        place[:, 1, 0], place[:, 2, 0], place[:, :, 1] = math.log(away), rise, math.log(0.05)
        place[:, 0, 1] = math.log(0.5)
        return Told(chances.log(), place)

    net.forward = forward  # type: ignore[method-assign]


def test_it_stands_where_the_surest_picture_has_it():
    net = WhereaboutsNet(SMALL)
    told_by(net, [0.3, 0.999999], 29, 15.0, -0.1)
    eyes = np.stack([EYE + np.array([0, 0, 0, 90.0, 0]), EYE + np.array([3.0, 0, 0, 30.0, 0])])
    pictures = np.zeros((2, 96, 160, 3), np.uint8)
    cell = net.draw(pictures, eyes, np.random.default_rng(0))
    across = (29.5 / 40 * 2 - 1) * math.tan(math.radians(35))
    assert bearing(cell, eyes[1]) == pytest.approx(math.atan(across), abs=0.05)
    assert distances_on_ground(cell, eyes[1]) == pytest.approx(15, abs=0.8)
    assert cell[1] == round(EYE[1] - 1.5)


def test_of_cells_that_may_be_it_the_one_is_taken_that_fits_the_best():
    true = np.array([3, 7, 21])
    away, angle = distances_on_ground(true, EYE), bearing(true, EYE)
    said = np.array([math.tan(angle), math.log(away), (7 - EYE[1]) / away])
    sure = np.array([0.003, 0.05, 0.02])
    np.testing.assert_array_equal(likeliest_cell(EYE, said, sure), true)
    # A distance that is a metre off is put right by the bearing, which is told far better.
    for off in (-0.05, 0.05):
        np.testing.assert_array_equal(likeliest_cell(EYE, said + np.array([0, off, 0]), sure), true)


def test_where_no_picture_shows_it_it_is_where_none_looks():
    net = WhereaboutsNet(SMALL)
    net.offsets.copy_(torch.tensor([[20.0, -1.0], [30.0, 3.0]]).repeat(128, 1))
    told_by(net, [1e-6, 1e-6], 5, 15.0, 0.0)
    eyes = np.stack([EYE, EYE + np.array([0, 0, 0, 60.0, 0])])
    pictures = np.zeros((2, 96, 160, 3), np.uint8)
    cells = np.stack([net.draw(pictures, eyes, np.random.default_rng(seed)) for seed in range(40)])
    for cell in cells:
        assert all(abs(bearing(cell, eye)) > math.radians(35) for eye in eyes)
        assert min(abs(distances_on_ground(cell, EYE) - away) for away in (20, 30)) < 0.8
    assert len(np.unique(cells, axis=0)) > 30
    np.testing.assert_array_equal(cells[3], net.draw(pictures, eyes, np.random.default_rng(3)))


def test_the_way_is_paid_by_how_much_nearer_it_leads():
    net = WhereaboutsNet(SMALL)
    net.by_place[SHAPED], net.prize[SHAPED], net.rate[SHAPED], net.reach[SHAPED] = True, 1.0, 0.1, 2.5
    goal = np.array([0, 4, 6])
    path = np.stack([EYE + np.array([0, 0, step, 0, 0]) for step in (0.0, 1.0, 3.0, 2.0, 4.0)])
    generator = torch.Generator().manual_seed(0)
    said = Outcomes(torch.randn(4, 4, 14, generator=generator), torch.randn(4, 4, generator=generator))
    task = torch.tensor([SHAPED, SHAPED, CHOP, SHAPED])
    settled = net.settled(said, [goal, None, goal, goal], [path, path, path, None], task)
    paid = expected_reward(settled.reward)
    assert paid[0].tolist() == pytest.approx([0.1, 0.2, -0.1, 1.2], abs=1e-3)
    assert (settled.terminated[0].sigmoid() > 0.5).tolist() == [False, False, False, True]
    for other in (1, 2, 3):  # no goal, another task, nobody knows where the eye is
        assert torch.equal(settled.reward[other], said.reward[other])
        assert torch.equal(settled.terminated[other], said.terminated[other])


def game(seed: int, *, ended: bool = True, task: int = SHAPED) -> tuple[_Game, np.ndarray]:
    """Somebody walks 0.25 m a tick along z to a pillar of :data:`GOAL`, paid a tenth of each metre, and 2 at 2 m."""
    generator = np.random.default_rng(seed)
    place = np.array([seed % 7, 4, 20 + seed % 5])
    stop = 2.0 if ended else 9.0
    z = np.arange(0.5, place[2] + 0.5 - stop + 0.26, 0.25)
    eyes = np.stack([np.full_like(z, place[0] + 0.5), np.full_like(z, 5.62), z, 0 * z, 0 * z], 1)
    away = distances_on_ground(place, eyes)
    rewards = np.concatenate([[0], -0.1 * np.diff(away)])
    rewards[-1] += 2.0 * ended
    ticks, boxes, corners = [10, len(z) - 5], [], []
    for tick in ticks:
        corner = np.floor(eyes[tick, :3]).astype(np.int64) - np.array([16, 13, 16])
        blocks = np.zeros((32, 24, 32), np.uint8)
        blocks[:, : 4 - corner[1]] = GROUND
        blocks[generator.integers(32), 4 - corner[1], generator.integers(32)] = 5
        x, y, depth = place - corner
        if depth < 32:
            blocks[x, y : y + 6, depth] = GOAL
        boxes.append(blocks)
        corners.append(corner)
    told = (np.array(ticks), np.stack(corners), np.stack(boxes))
    picked = np.arange(4)
    made = _Game(task, eyes, rewards.astype(np.float32), ended, told, picked, np.zeros((4, 8, 8, 3), np.uint8))
    return made, place


def test_a_goal_is_what_stands_where_tasks_end(monkeypatch: pytest.MonkeyPatch):
    games = [game(seed) for seed in range(30)] + [game(seed, ended=False) for seed in range(30, 40)]
    assert _kind_of_goals([each for each, _ in games]) == GOAL
    assert _kind_of_goals([each for each, _ in games[:10]]) is None  # a handful of ends tells nothing
    nowhere = [each._replace(told=(each.told[0], each.told[1], each.told[2] * (each.told[2] != GOAL)))
               for each, _ in games]  # fmt: skip
    assert _kind_of_goals(nowhere) is None
    for each, place in games:
        np.testing.assert_array_equal(_place_of(each, GOAL), place)
    assert _place_of(nowhere[0], GOAL) is None
    np.testing.assert_array_equal(_shape_of(games, GOAL), pillar())
    by_place, prize, rate, reach = _pay_of(games)
    assert [TASKS[task] for task in np.flatnonzero(by_place)] == ["navigate-shaped"]
    assert prize[SHAPED] == pytest.approx(2) and rate[SHAPED] == pytest.approx(0.1)
    assert 1.75 <= reach[SHAPED] < 2.0
    others = [(each._replace(rewards=np.where(each.rewards > 1, 2, 0).astype(np.float32)), place)
              for each, place in games]  # fmt: skip
    assert _pay_of(others)[2][SHAPED] == 0  # only the end is paid
    monkeypatch.setattr(goal_search, "_games", lambda *_, **__: iter([each for each, _ in games]))
    found = goal_search.search([], (8, 8), np.random.default_rng(0), episodes=99, pictures=4)
    assert found is not None and found.kind == GOAL and len(found.pictures.away) == 160
    np.testing.assert_allclose(found.pictures.bearings, 0, atol=1e-6)
    np.testing.assert_allclose(found.pictures.higher, -1.62, atol=1e-5)
    monkeypatch.setattr(goal_search, "_games", lambda *_, **__: iter(nowhere))
    assert goal_search.search([], (8, 8), np.random.default_rng(0), episodes=99, pictures=4) is None


def bright(count: int = 400) -> Pictures:
    """Grey pictures; a bright upright line is where the goal is, the longer the nearer it is, if it is in them."""
    generator = np.random.default_rng(0)
    frames = generator.integers(90, 130, (count, 32, 48, 3)).astype(np.uint8)
    bearings, away = generator.uniform(-1.2, 1.2, count), generator.uniform(4, 30, count)
    for frame, angle, metres in zip(frames, bearings, away, strict=True):
        column = math.floor((math.tan(angle) / math.tan(math.radians(35)) + 1) / 2 * 48)
        if 0 <= column < 48:
            frame[max(0, 16 - int(60 / metres)) : 16, column] = 255
    parts = (torch.from_numpy(part).float() for part in (0 * away, bearings, away, -1.62 + 0 * away))
    return Pictures(torch.from_numpy(frames), *parts)


def test_a_net_learns_where_it_is_in_pictures():
    pictures = bright()
    tasks, none = np.arange(len(TASKS)) == SHAPED, np.zeros(len(TASKS), np.float32)
    data = Searched(pictures, GOAL, pillar(), tasks, none + 1, none, none + 2.5)
    completion = CompletionNet(CompletionConfig(kinds=12, width=8, deep=8))
    completion.palette[GOAL], completion.lit[GOAL] = 0.7, 0.3
    quick = OptimizerConfig(other_lr=5e-3, warmup=5, ema=0.95)
    config = WhereaboutsStageConfig(batch=48, light=0.05, model=SMALL, optimizer=quick)
    stage = WhereaboutsStage(config, data, data, completion, seed=0, dtype=torch.float32)
    before = stage.validate(0, None)  # type: ignore[arg-type]
    for step in range(250):
        stage.train_step(step, 250)
    stage.optimizer.copy_average_to(stage.average)
    after = stage.validate(250, None)  # type: ignore[arg-type]
    assert after["held_out"] < before["held_out"] - 1
    assert after["there"] > 0.8 and after["not_there"] < 0.3
    assert after["degrees"] < 4 and after["share"] < 0.25
    net = stage.result()
    assert net.goal().shape.sum() == 6 and net.goal().lit == pytest.approx(0.3)
    assert float(net.palette.mean()) == pytest.approx(0.7) and bool(net.by_place[SHAPED])
    assert net.offsets[:, 0].min() >= 4 and net.offsets[:, 0].max() <= 30
    again = WhereaboutsStage(config, None, None, completion, seed=0, dtype=torch.float32)
    again.load_state_dict(stage.state_dict())
    for name, value in again.result().state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_pictures_are_sharpened_and_blurred():
    frames = torch.full((2, 3, 8, 10), 0.4)
    frames[:, :, :, 5:] = 0.6
    assert torch.allclose(sharpened(frames, torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)), frames)
    amount = torch.tensor([-1.0, 1.0])[:, None, None, None]
    soft, crisp = sharpened(frames, amount, torch.zeros(2, 1, 1, 1))
    assert torch.allclose(soft[:, 3, 3:7], torch.tensor([0.4, 0.45, 0.55, 0.6]), atol=1e-5)
    assert torch.allclose(crisp[:, 3, 3:7], torch.tensor([0.4, 0.35, 0.65, 0.6]), atol=1e-5)
    grey = sharpened(frames, torch.zeros(2, 1, 1, 1), amount)
    assert torch.allclose(grey, frames, atol=1e-6)  # it has no colours
    frames[:, 0, :, 5:] = 0.9
    told = sharpened(frames, torch.zeros(2, 1, 1, 1), amount)
    assert torch.allclose(told.mean(1), frames.mean(1), atol=1e-6) and not torch.allclose(told, frames)


def test_pictures_are_seen_as_films_have_them():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 8, 12, generator=generator)
    filmed, weight = as_filmed(pictures), torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    assert torch.allclose((filmed * weight).sum(1), (pictures * weight).sum(1), atol=1e-5)  # as bright as ever
    stripes = torch.zeros(1, 3, 8, 12)
    stripes[:, 0, ::2], stripes[:, 2, 1::2] = 0.8, 0.5
    colours = as_filmed(stripes) - (as_filmed(stripes) * weight).sum(1, keepdim=True)
    assert torch.allclose(colours, colours[:, :, :1, :1].expand_as(colours), atol=1e-5)  # all of one colour
    assert torch.allclose(as_filmed(torch.full((1, 3, 4, 4), 0.3)), torch.full((1, 3, 4, 4), 0.3))


def test_answers_are_columns_of_the_picture():
    far = math.atan(math.tan(math.radians(35)) * 0.999)
    pictures = bright(5)._replace(bearings=torch.tensor([0.0, -far, far, 0.7, math.pi]))
    column, place, shown = answers(pictures, 12, 70.0)
    assert column.tolist() == [6, 0, 11, 12, 12] and shown.tolist() == [1, 1, 1, 0, 0]
    assert place[0, 0] == pytest.approx(-0.5, abs=1e-5)
    assert torch.allclose(place[:, 1].exp(), pictures.away)
    mirrored, _, _ = answers(pictures._replace(bearings=-pictures.bearings), 12, 70.0)
    assert mirrored.tolist()[1:3] == [11, 0]
