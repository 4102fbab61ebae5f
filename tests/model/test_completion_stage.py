"""The map of blocks learns from recorded blocks, and what it learns from is what was recorded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentcraft.__main__ import main
from latentcraft.errors import UserError
from latentcraft.model.camera import BOX
from latentcraft.model.completion import (
    MIDDLE,
    CompletionConfig,
    CompletionNet,
    complete,
    directions,
    folded,
    hues_of,
    is_beside,
    keep_thin,
    unfolded,
)
from latentcraft.model.depth import DepthConfig, DepthNet
from latentcraft.model.episodes import list_episodes, read_blocks
from latentcraft.model.evidence import EVIDENCE, corner_of, evidence
from latentcraft.model.memory import Memory
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.place import Place
from latentcraft.model.relief import AIR
from latentcraft.model.train.completion import (
    Boxes,
    CompletionStage,
    CompletionStageConfig,
    Surveyed,
    kind_weights,
    look_through,
    quantised,
    restored,
    turned,
)
from latentcraft.model.train.take_over import take_over
from latentcraft.model.train.textures import follows_light

SIZE = (48, 80)
SMALL = CompletionConfig(width=8, deep=16)
GRASS, SAND = 2, 5


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "data"
    keys = ["episodes=3", "ticks=160", "workers=0", "hands=1.0", "task=free", f"frame_size=[{SIZE[0]},{SIZE[1]}]"]
    assert main(["record", f"out={out}", "seed=31", *keys]) == 0
    return out


@pytest.fixture(scope="module")
def surveyed(recorded):
    torch.manual_seed(0)
    depth = DepthNet(DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1))).eval()
    config = CompletionStageConfig(boxes=2, pictures=4)
    return look_through(list_episodes(recorded), depth, SIZE, config, np.random.default_rng(0))


def test_blocks_are_recorded_around_the_player(recorded):
    for path in list_episodes(recorded):
        told = read_blocks(path)
        assert told is not None
        index, corners, blocks = told
        assert len(index) >= 4 and blocks.shape[1:] == BOX and corners.shape == (len(index), 3)
        assert 0.2 < (blocks == 0).mean() < 0.95  # there is land below, and air above
        assert (blocks[:, :, -1] == 0).mean() > (blocks[:, :, 0] == 0).mean()


def test_what_is_gathered_has_the_look_of_blocks(surveyed):
    boxes = surveyed.boxes
    assert len(boxes.blocks) >= 4 and boxes.blocks.shape[1:] == BOX and boxes.seen.shape[1:] == (EVIDENCE, *BOX)
    seen = restored(boxes.seen)
    assert (seen[:, 9] > 0).float().mean() > 0.003  # something was looked through
    placed = surveyed.placed
    assert placed.shape == (9,) and placed.max() < 20
    assert surveyed.palette.shape == (20, 6, 16, 16, 3) and 0 <= surveyed.palette.min() <= surveyed.palette.max() <= 1.5


def test_evidence_survives_being_kept_in_bytes():
    generator = np.random.default_rng(0)
    seen = generator.random((EVIDENCE, *BOX)).astype(np.float32)
    seen[4:7] -= 0.5
    again = restored(torch.from_numpy(quantised(seen))[None])[0].numpy()
    np.testing.assert_allclose(again, seen, atol=0.02)
    nothing = restored(torch.from_numpy(quantised(np.zeros_like(seen)))[None])
    assert not nothing.any()


def test_folding_is_undone():
    cells = torch.rand(2, 3, *BOX)
    assert torch.equal(unfolded(folded(cells)), cells)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turned_world_gives_turned_evidence(quarter):
    memories = []
    for turn in (0, quarter):
        memory = Memory(SIZE, field_of_view=70.0)
        picture = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
        distance = np.random.default_rng(1).uniform(2, 12, SIZE).astype(np.float32)
        eye = np.array([0.3, 20.6, 0.2, 20.0, 15.0])
        for _ in range(turn):
            eye[0], eye[2] = -eye[2], eye[0]
        eye[3] += 90 * turn
        memory.remember(picture, distance, eye)
        memories.append(torch.from_numpy(evidence(memory, np.array([-16, 8, -16])))[None])
    straight = turned(memories[0], quarter, mirror=False)
    # Points in the planes between cells may fall to either side.
    assert ((straight - memories[1]).abs() > 1e-3).float().mean() < 1e-4
    assert (memories[1][:, 0] > 0).sum() > 100


def test_it_learns_and_goes_on_where_it_stopped(surveyed, tmp_path):
    config = CompletionStageConfig(
        batch=2, model=SMALL, optimizer=OptimizerConfig(other_lr=5e-3, warmup=2, ema=0.8)
    )  # fmt: skip
    stage = CompletionStage(config, surveyed, surveyed, seed=0, dtype=torch.float32)
    stage.optimizer.copy_average_to(stage.average)
    first = stage.validate(0, tmp_path)
    for step in range(15):
        stage.train_step(step, 30)
    torch.save(stage.state_dict(), tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    for step in range(15, 30):
        stage.train_step(step, 30)
    trained = stage.result()
    last = stage.validate(30, tmp_path)
    assert last["loss"] < 0.8 * first["loss"] and last["solid"] > 0.5
    assert torch.equal(trained.palette, surveyed.palette)
    other = CompletionStage(config, surveyed._replace(palette=torch.zeros_like(surveyed.palette)), surveyed,
                            seed=0, dtype=torch.float32)  # fmt: skip
    other.load_state_dict(kept)
    for step in range(15, 30):
        other.train_step(step, 30)
    again = other.result().state_dict()
    assert all(torch.equal(part, again[name]) for name, part in trained.state_dict().items())


def test_nets_without_marks_and_states_from_before_there_were_any_go_on(surveyed):
    plain = CompletionStageConfig(batch=2, model=replace(SMALL, marks=False))
    stage = CompletionStage(plain, surveyed, surveyed, seed=0, dtype=torch.float32)
    stage.train_step(0, 10)
    state = stage.state_dict()
    assert "dims" not in state and torch.equal(state["palette"], surveyed.palette)
    config = CompletionStageConfig(batch=2, model=SMALL)
    later = CompletionStage(config, surveyed, surveyed, seed=0, dtype=torch.float32)
    later.load_state_dict(state)
    assert torch.equal(later.result().palette, surveyed.palette)
    assert torch.equal(later.result().dims, surveyed.dims)


def test_what_was_gathered_from_own_recordings_is_not_taken_over(surveyed):
    known = CompletionNet(SMALL)
    known.palette.fill_(0.25)
    known.reach.fill_(3.0)
    torch.nn.init.normal_(known.final.weight)
    config = CompletionStageConfig(batch=2, model=SMALL)
    no_marks = surveyed._replace(reach=torch.zeros(()))
    stage = CompletionStage(config, no_marks, no_marks, seed=0, dtype=torch.float32)
    assert take_over(known, stage)
    net = stage.result()
    assert torch.equal(net.palette, surveyed.palette) and torch.equal(net.final.weight, known.final.weight)
    assert net.reach == 3.0  # of that the own recordings told nothing
    nothing = CompletionStage(config, None, None, seed=0, dtype=torch.float32)
    assert take_over(known, nothing)
    assert (nothing.result().palette == 0.25).all()


def test_a_map_is_made_of_what_the_net_says():
    net = CompletionNet(SMALL).eval()
    torch.nn.init.zeros_(net.final.weight)
    with torch.no_grad():
        net.final.bias.view(20, -1)[SAND] = 5.0
        net.palette[:] = 0.5
    place = Place(SIZE, 70.0, net.looks())
    eye = place.begin(np.array([0.5, 20.6, 0.5, 0.0, 0.0]))
    place.memory.remember(np.full((*SIZE, 3), 100, np.uint8), np.full(SIZE, 5.0, np.float32), eye)
    place.complete(net)
    assert place.blocks is not None
    assert place.blocks.at(np.array([0, 20, 3])) == SAND + 1
    corner = corner_of(eye)
    guessed = place.blocks.cells[place.blocks.box(corner)]
    elsewhere = np.ones(BOX, np.bool_)
    elsewhere[16, 12:14, 16] = False
    assert (guessed[elsewhere] & 31 == SAND + 1).all() and 0.5 < (guessed & 32 > 0).mean() < 1
    assert (guessed[~elsewhere] == AIR).all()  # there somebody stands


def test_kinds_share_what_speaks_for_a_block():
    net = CompletionNet(SMALL).eval()
    torch.nn.init.zeros_(net.final.weight)
    seen = torch.zeros(1, EVIDENCE, *BOX)
    with torch.no_grad():
        net.final.bias.view(20, -1)[:] = -9.0
        net.final.bias.view(20, -1)[[0, SAND, SAND + 1]] = torch.tensor([1.0, 0.5, 0.6])[:, None]
        assert (net.decided(seen) == SAND + 1).all()  # air is the likeliest of the three, but any block is likelier
        net.final.bias.view(20, -1)[0] = 2.0
        assert (net.decided(seen) == 0).all()


def test_a_thin_thing_is_kept_where_it_is_the_likeliest():
    chance, surface = np.zeros(BOX, np.float32), np.ones(BOX, np.float32)
    chance[16, 13, 20:23] = 0.3, 0.4, 0.1  # along one ray
    chance[10, 13, 16] = 0.3  # on its own it is too little
    chance[16, 13, 10], chance[16, 13, 11] = 0.6, 0.4  # a wall that is there, and its shadow
    there = chance > 0.5
    keep_thin(chance, surface, np.array(MIDDLE), there)
    assert set(zip(*np.nonzero(there), strict=True)) == {(16, 13, 21), (16, 13, 10)}
    there = chance > 0.5
    keep_thin(chance, np.zeros(BOX, np.float32), np.array(MIDDLE), there)
    assert there.sum() == 1  # where nothing was seen nothing is thin


def test_the_net_knows_where_a_cell_is_from_the_eye():
    way = directions()
    assert way.shape == (4, 16, 12, 16)
    ahead, behind = way[:, 8, 6, 15], way[:, 8, 6, 0]
    assert ahead[2] > 0.9 and behind[2] < -0.9 and way[3, 8, 6, 15] > way[3, 8, 6, 9]
    net = CompletionNet(SMALL).eval()
    assert net.place is not None
    torch.nn.init.normal_(net.place.weight)
    torch.nn.init.normal_(net.final.weight)
    with torch.no_grad():
        said = net(torch.zeros(1, EVIDENCE, *BOX))
    assert said.flatten(2).std(2).max() > 0
    plain = CompletionNet(CompletionConfig(**{**vars(SMALL), "place": False}))
    assert plain.place is None


def test_cells_of_a_surface_are_told_one_by_one_by_hues_that_no_light_changes():
    seen = torch.zeros(1, EVIDENCE, *BOX)
    seen[0, 0, 3:5, 3, 3] = 1.0
    seen[0, 1:4, 3, 3, 3], seen[0, 7, 3, 3, 3] = torch.tensor([0.4, 0.3, 0.2]), 0.06
    seen[0, 1:4, 4, 3, 3], seen[0, 7, 4, 3, 3] = torch.tensor([0.4, 0.3, 0.2]) / 3, 0.02
    light, dark = hues_of(seen)[0, :, 3:5, 3, 3].unbind(1)
    assert torch.allclose(light[[0, 1, 2, 4]], dark[[0, 1, 2, 4]], atol=1e-5)
    assert abs(float(light[3] - dark[3]) - np.log(3)) < 1e-5
    net = CompletionNet(SMALL).eval()
    assert net.single is not None
    plain = CompletionNet(CompletionConfig(**{**vars(SMALL), "one_by_one": False})).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("single.")})
    with torch.no_grad():
        assert torch.equal(net(seen), plain(seen))  # a net that was trained without can go on with it
        net.single[2].bias[SAND] = 9.0
        more = net(seen) - plain(seen)
        said = net.decided(seen)[0]
        net.single[2].bias[SAND] = 0.0
        net.single[2].weight[SAND] = 1.0
        above, alone = net(seen), net(seen * (torch.arange(BOX[0]) < 4).view(1, 1, -1, 1, 1))
    assert (more[0, SAND, 2:6, 2:5, 2:5] - 9).abs().max() < 1e-4
    assert abs(float(more.sum()) - 9 * 36) < 1e-1  # that and what touches it, and no more
    assert (said[3:5, 3, 3] == SAND).all() and np.array_equal(said[6:], plain.decided(seen)[0][6:])
    assert (above[0, SAND, 3, 3, 3] - alone[0, SAND, 3, 3, 3]).abs() > 1e-3  # it looks at its neighbours


def test_rare_kinds_and_what_lies_beside_something_seen_weigh_more():
    seen, blocks = torch.full((2, EVIDENCE, *BOX), -128, dtype=torch.int8), torch.zeros(2, *BOX, dtype=torch.uint8)
    seen[0, 0, :10, 0], blocks[0, :10, 0] = 0, 2  # 320 cells of surface that are grass
    seen[0, 0, 20, 5, :20], blocks[0, 20, 5, :20] = 0, 7  # 20 that are of a trunk
    seen[0, 0, 25, 5, 5], blocks[0, 25, 5, 5] = 0, 8
    blocks[1] = 9  # of which nothing is remembered
    weights = kind_weights(Boxes(seen, blocks), 20, 0.5)
    assert weights[0] == weights[2] == 1 and weights[7] == 4 and weights[8] == 4
    seen[0, 0, 20, 6, :20], blocks[0, 20, 6, :20] = 0, 7
    assert abs(float(kind_weights(Boxes(seen, blocks), 20, 0.5)[7]) - 8**0.5) < 1e-5
    assert (kind_weights(Boxes(seen, blocks), 20, 0.0) == 1).all()
    told = {name: torch.zeros(()) for name in ("palette", "placed", "dims", "lasts", "reach")}
    data = Surveyed(Boxes(seen, blocks), lit=torch.zeros(()), **told)
    stage = CompletionStage(CompletionStageConfig(model=SMALL), data, data, seed=0, dtype=torch.float32)
    before = stage.network.final.bias.detach().view(20, -1).clone()
    lowered = before - stage.result().final.bias.view(20, -1)
    assert torch.allclose(lowered, stage.weights.log()[:, None].expand_as(lowered), atol=1e-6)
    assert torch.equal(before - stage.result().final.bias.view(20, -1), lowered)  # however often it is asked for
    done = CompletionStage(CompletionStageConfig(model=SMALL), None, None, seed=0, dtype=torch.float32)
    done.load_state_dict(stage.state_dict())
    assert torch.equal(done.result().final.bias, stage.result().final.bias)  # nothing is looked through again for it
    surface = torch.zeros(1, *BOX, dtype=torch.bool)
    surface[0, 5, 5, 5] = True
    assert is_beside(surface).sum() == 27 and is_beside(surface)[0, 4, 6, 5]


def test_complete_needs_no_more_than_a_memory():
    net = CompletionNet(SMALL).eval()
    place = Place(SIZE, 70.0, net.looks())
    assert place.blocks is not None and place.looks is not None
    complete(net, place.memory, place.blocks, place.looks, np.array([0.5, 20.6, 0.5, 0.0, 0.0]))
    assert place.blocks.centre is not None and place.blocks.light[3] == 0


def test_what_glows_does_not_follow_the_light():
    light = np.linspace(-0.5, 0.2, 20)
    assert follows_light([(one, one + 0.1) for one in light])
    assert not follows_light([(one, 0.3 + 0.01 * (-1) ** at) for at, one in enumerate(light)])
    assert follows_light([(one, 0.3) for one in light[:5]])  # too seldom seen to say


def test_more_kinds_than_a_net_or_a_map_can_tell_are_named(recorded):
    depth = DepthNet(DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1))).eval()
    config = CompletionStageConfig(model=CompletionConfig(kinds=3))
    with pytest.raises(UserError, match=r"completion\.model\.kinds"):
        look_through(list_episodes(recorded), depth, SIZE, config, np.random.default_rng(0))
    with pytest.raises(UserError, match="2 to 31"):
        CompletionConfig(kinds=40)
