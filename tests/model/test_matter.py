"""What hands make: where it is drawn is where the reference world has it, and what is drawn is what the net says."""

import math

import numpy as np
import pytest
import torch

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, CHANGES, HOTBAR_SLOTS
from latentcraft.model.aim import MOST, AimNet, laid_out, told_of
from latentcraft.model.camera import EYE_HEIGHT, axes, pixel_rays
from latentcraft.model.cells import face_seen, faces_ahead, has_room, hold
from latentcraft.model.guess import Guess
from latentcraft.model.handiwork import certain, changed_cells, settled, worked
from latentcraft.model.held import Held, in_hand, phases_of
from latentcraft.model.matter import FACES, TEXELS, MatterConfig, MatterNet, crossings, overview, surroundings
from latentcraft.model.memory import Memory
from latentcraft.model.place import UNKNOWN, Place
from latentcraft.model.views import DRAWN, OPEN, Views
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.blocks import AIR, BRICK
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE, LENS = (96, 160), 70.0
RAYS = pixel_rays(*SIZE, LENS)
SEED = 900_002


class Plain(MatterNet):
    """Says that every face has one colour, and is solid or not."""

    def __init__(self, *, solid: bool = True):
        super().__init__(MatterConfig(width=16, channels=8))
        self.says = solid

    def forward(self, around, whole, kind, slot):
        colours = torch.linspace(0.1, 0.9, FACES)[None, :, None, None, None].expand(1, -1, 3, TEXELS, TEXELS)
        return colours, torch.full((1, FACES, TEXELS, TEXELS), 1.0 if self.says else -1.0)


def looking_down() -> tuple[VoxelWorld, Reference, np.ndarray]:
    """Return a game that looks at the ground ahead, opened up, and its eye."""
    down = np.zeros((12, ACTION_SIZE), np.float32)
    down[:4, -2] = 10.0
    world, game = VoxelWorld(1, "free", SIZE), Reference(SEED)
    world.reset([Start(seed=SEED, lead=down)])
    game.play(down)
    x, y, z, yaw, pitch = game.pose
    return world, game, np.array([x, y + EYE_HEIGHT, z, yaw, pitch])


def view_of(world: VoxelWorld, eye: np.ndarray) -> Views:
    """Return all that is to be seen, as if it were remembered."""
    distance = world.distances(0)
    attached = distance == 0
    picture = world.render_pose(0, (eye[0], eye[1] - EYE_HEIGHT, *eye[2:]))
    distance = np.where(attached, np.inf, distance).astype(np.float32)
    return Views(picture[None], ~attached[None], np.ones((1, *SIZE), np.float32), distance[None], eye[None])


def held_at(eye: np.ndarray, cell: tuple[int, int, int], kind: str) -> np.ndarray:
    """Return what tells one frame of a changed cell."""
    holds = np.full((1, 2, 6), np.nan, np.float32)
    holds[0, CHANGES.index(kind)] = hold(np.array(cell, float), eye, LENS)
    return holds


def test_rays_meet_the_faces_of_a_cell():
    """From half a metre before the middle of a face: it at once, the far one a metre on, at the same place."""
    ahead = np.array([0.0, 0.0, 1.0])[:, None]
    enters, leaves = crossings(np.array([-0.25, -0.75, 0.5]), ahead)
    assert enters.distance == [0.5] and leaves.distance == [1.5]
    assert enters.face == [4] and leaves.face == [5]  # across z, the lower and the upper one
    np.testing.assert_allclose(enters.place[:, 0], [0.25, 0.75])
    np.testing.assert_allclose(leaves.place[:, 0], [0.25, 0.75])
    missed, _ = crossings(np.array([0.5, 0.5, 0.5]), ahead)
    assert np.isinf(missed.distance).all()
    behind, _ = crossings(np.array([-0.5, -0.5, -3.0]), ahead)
    assert np.isinf(behind.distance).all()


def test_points_on_faces_are_where_rays_cross_them():
    """A point that a ray is said to meet lies on that face, at that place."""
    corner, eye = np.array([3.0, -1.0, 2.0]), np.array([0.3, 1.6, -0.4, -50.0, 20.0])
    ways = np.einsum("ij,jhw->ihw", axes(eye[3], eye[4]), RAYS)
    for met in crossings(corner - eye[:3], ways):
        rows, columns = np.isfinite(met.distance).nonzero()
        assert len(rows) > 100
        for row, column in zip(rows[::97], columns[::97], strict=True):
            point = eye[:3] + met.distance[row, column] * ways[:, row, column] - corner
            axis, upper = divmod(int(met.face[row, column]), 2)
            assert point[axis] == pytest.approx(upper, abs=1e-6)
            others = [part for index, part in enumerate(point) if index != axis]
            np.testing.assert_allclose(met.place[:, row, column], others, atol=1e-5)


def test_what_is_placed_is_drawn_where_the_reference_has_it():
    world, game, eye = looking_down()
    view = view_of(world, eye)
    target, cell = game.aim(game.pose)
    done = worked(Plain(), view, held_at(eye, cell, "placed"), np.zeros(1, int), RAYS)
    other = game.draw(SIZE, game.pose, {cell: BRICK})
    true = np.abs(game.draw(SIZE, game.pose).astype(int) - other).max(-1) > 8
    drawn = done.worked[0] == DRAWN
    # Beside it the ground may lie in its shade.
    assert (drawn & true).sum() / drawn.sum() > 0.9 and drawn.sum() / true.sum() > 0.75
    assert not (done.worked == OPEN).any()
    assert (done.distances[0][drawn] < 1.12 * view.distances[0][drawn]).all() and done.known[0][drawn].all()
    assert np.array_equal(done.pictures[0][~drawn], view.pictures[0][~drawn])
    enters, _ = crossings(np.array(cell) - eye[:3], np.einsum("ij,jhw->ihw", axes(eye[3], eye[4]), RAYS))
    np.testing.assert_allclose(done.distances[0][drawn], enters.distance[drawn], rtol=1e-5)
    assert game.block(target) != AIR and view.worked is None  # the view itself stays as it was


def test_what_is_dug_is_drawn_inside_the_hole_or_left_open():
    world, game, eye = looking_down()
    view = view_of(world, eye)
    cell, _ = game.aim(game.pose)
    holds = held_at(eye, cell, "dug")
    done = worked(Plain(), view, holds, np.zeros(1, int), RAYS)
    drawn = done.worked[0] == DRAWN
    other = game.draw(SIZE, game.pose, {cell: AIR})
    true = np.abs(game.draw(SIZE, game.pose).astype(int) - other).max(-1) > 8
    assert (drawn & true).sum() / true.sum() > 0.9
    before = drawn & view.known[0]
    assert (done.distances[0][before] > view.distances[0][before] * 0.9).all()
    bare = worked(Plain(solid=False), view, holds, np.zeros(1, int), RAYS)
    assert np.array_equal(bare.worked, done.worked), "nobody knows what would be behind"
    behind = view._replace(known=np.ones_like(view.known), distances=np.full_like(view.distances, 50.0))
    behind = behind._replace(pictures=np.full_like(view.pictures, 7))
    seen = worked(Plain(solid=False), view, holds, np.zeros(1, int), RAYS, behind)
    left = seen.worked[0] == OPEN
    assert np.array_equal(left, drawn) and (seen.pictures[0][left] == 7).all() and (seen.distances[0][left] == 50).all()
    through = worked(Plain(), view, holds, np.zeros(1, int), RAYS, behind)
    assert np.array_equal(through.worked, done.worked)
    assert [part.tolist() for part in changed_cells(holds, eye[None], "dug")] == [list(map(float, cell))]


def test_surroundings_are_the_same_from_elsewhere():
    """What is laid out flat does not hang on where it is seen from."""
    world, game, eye = looking_down()
    cell, _ = game.aim(game.pose)
    first = surroundings(*(part[0] for part in view_of(world, eye)[:4:3]), eye, np.array(cell, float), LENS)
    turn = np.zeros((1, 4, ACTION_SIZE), np.float32)
    turn[..., -1], turn[..., -2] = 2.0, -1.0
    world.step(turn)
    x, y, z, yaw, pitch = world.step(np.zeros_like(turn)).infos[0]["pose"]
    other = np.array([x, y + EYE_HEIGHT, z, yaw, pitch])
    second = surroundings(*(part[0] for part in view_of(world, other)[:4:3]), other, np.array(cell, float), LENS)
    both = (first[..., 3] > 0) & (second[..., 3] > 0)
    assert both.sum() > 100
    same = np.abs(first[..., :3] - second[..., :3])[both].mean()
    shuffled = np.abs(first[..., :3] - second[:, ::-1, :, :3])[both & both[:, ::-1]].mean()
    assert same < 0.06 and same < shuffled


def test_overviews_average_what_is_known():
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:, 40:] = 255
    known = np.ones((48, 80), bool)
    known[:8] = False
    seen = overview(picture, known)
    assert seen.shape == (6, 10, 4) and not seen[0].any() and (seen[1:, :, 3] == 1).all()
    assert (seen[1:, :5, :3] == 0).all() and (seen[1:, 5:, :3] == 1).all()


def test_aim_learns_which_face_is_seen():
    """Where distances are off by more than faces are apart, the pattern on the right plane tells; and it is chosen."""
    world, game, eye = looking_down()
    view = view_of(world, eye)
    faces = faces_ahead(eye)
    true = face_seen(view.distances[0], RAYS, eye)
    colours, known, off = laid_out(
        view.pictures[0], view.distances[0], eye, np.array([np.maximum(true.behind, true.before)], float),
        np.array([true.axis]), 8, LENS,
    )  # fmt: skip
    middle = slice(10, 14)
    assert known[0, middle, middle].mean() > 0.5 and np.median(np.abs(off[0, middle, middle])) < 0.02
    assert colours.any()
    torch.manual_seed(0)
    net = AimNet()
    told = [torch.from_numpy(part)[None] for part in told_of(faces[:MOST], *_seen(view), eye, LENS)]
    there = torch.ones(1, len(faces[:MOST]), dtype=torch.bool)
    target = torch.tensor([[face.distance for face in faces].index(true.distance)])
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(*told, there), target).backward()
        optimizer.step()
    assert net.chosen(faces, *_seen(view), eye, LENS).distance == true.distance
    assert net(*told, there & False).isinf().all()


def _seen(view: Views) -> tuple[np.ndarray, np.ndarray]:
    return view.pictures[0], view.distances[0]


def test_carving_forgets_a_cell_and_nothing_else():
    memory = Memory(SIZE, field_of_view=LENS)
    eye = np.array([0.5, 1.62, 0.5, 0.0, 40.0])
    down = RAYS[2] * math.sin(math.radians(40)) - RAYS[1] * math.cos(math.radians(40))
    distance = np.where(down > 0.05, 1.62 / np.maximum(down, 0.05), 1000.0).astype(np.float32)
    memory.remember(np.full((*SIZE, 3), 99, np.uint8), distance, eye)
    before = memory.own[0].copy()
    memory.carve(np.array([0.0, -1.0, 2.0]))
    gone = before & ~memory.own[0]
    points = np.einsum("ij,jhw->ihw", axes(eye[3], eye[4]), RAYS * distance) + eye[:3, None, None]
    inside = (np.abs(points[0] - 0.5) < 0.65) & (np.abs(points[2] - 2.5) < 0.65) & (distance < 100)
    assert gone.sum() > 200 and np.array_equal(gone, before & inside)
    memory.carve(np.array([200.0, -1.0, 2.0]))
    assert np.array_equal(memory.own[0], before & ~gone)


def blocks() -> MatterNet:
    """Return a net that knows blocks of nine greys in the lower right corner of 32 x 48 pixels."""
    net = MatterNet(MatterConfig(width=16, channels=8, frame_size=(32, 48)))
    shape = torch.zeros(32, 48, dtype=torch.bool)
    shape[24:30, 40:46] = True
    greys = torch.linspace(0, 1, HOTBAR_SLOTS)[:, None, None, None].expand(-1, 3, 32, 48)
    net.show_in_hand(shape, greys)
    return net


def test_what_is_in_the_hand_is_seen_at_first_and_then_known():
    net, place = blocks(), Place((32, 48), LENS)
    picture = torch.zeros(1, 3, 32, 48)
    picture[:, :, 24:30, 40:46] = 2 * 5 / 8 - 1
    net.sprites[:5] = 0.0  # nothing else may be as light in another light
    net.sprites[6:, :, ::2] = 0.0
    actions = torch.zeros(1, 4, ACTION_SIZE)
    resting = in_hand(net, [place], picture, actions)
    assert resting.slots.tolist() == [[5] * 4] and place.slot == 5 and abs(place.light - 1) < 0.01
    assert resting.new.sum() == 4 * 36 and resting.new[:, :, 24:30, 40:46].all()
    assert (resting.shown_in(picture[:, None]) - picture[:, None]).abs().max() < 0.01
    actions[0, 2, BUTTON_INDEX["hotbar.1"]] = 1
    chosen = in_hand(net, [place], picture, actions)
    assert chosen.slots.tolist() == [[5, 5, 0, 0]] and place.slot == 0
    shown = chosen.shown_in(picture[:, None].expand(-1, 4, -1, -1, -1))
    assert (shown[0, 1] - picture[0]).abs().max() < 0.01 and (shown[0, 2, :, 24:30, 40:46] == -1).all()
    assert not shown[0, 2, :, :24].any()
    where, looks = chosen.pixels(0)
    assert where.sum() == 4 * 36 and looks.shape == (4, 32, 48, 3) and not looks[2, 24:30, 40:46].any()
    # Of clips that nobody plays only what is chosen is shown.
    clip = in_hand(net, [None], picture, actions)
    assert clip.slots.tolist() == [[5, 5, 0, 0]] and clip.new.any((2, 3)).tolist() == [[False, False, True, True]]
    assert not clip.around.any()
    assert in_hand(None, [place], picture, actions) is None
    striped = torch.rand(1, 3, 32, 48) * 2 - 1
    lost = in_hand(net, [None], striped, torch.zeros(1, 4, ACTION_SIZE))
    assert lost.slots.tolist() == [[UNKNOWN] * 4] and lost.new is None and lost.pixels(0) is None
    real = np.full((1, 32, 48, 3), round(255 * 5 / 8), np.uint8)
    for there, slot in ((True, 5), (False, UNKNOWN)):
        begun = in_hand(net, [None], striped, torch.zeros(1, 4, ACTION_SIZE), real, torch.tensor([there]))
        assert begun.slots.tolist() == [[slot] * 4]
    wider = net.in_frame((64, 96))
    assert wider[0].sum() == 4 * 36 and wider[1].shape == (HOTBAR_SLOTS, 3, 64, 96)


def test_a_hand_shows_its_block_in_the_light_there_is():
    net, place = blocks(), Place((32, 48), LENS)
    net.sprites[5, :, ::2] = 0.0  # striped, as nothing else is
    look = net.in_frame((32, 48))[1][5]
    dusk = ((look + 1) * 0.4 * 127.5).round().to(torch.uint8)[None]
    real, picture = dusk.permute(0, 2, 3, 1).numpy(), dusk / 127.5 - 1
    begun = in_hand(net, [place], torch.zeros_like(picture), torch.zeros(1, 4, ACTION_SIZE), real)
    assert place.slot == 5 and abs(place.light - 0.4) < 0.02
    shown = begun.shown_in(torch.zeros(1, 4, 3, 32, 48))
    assert (shown[0, 3, :, 24:30, 40:46] - picture[0, :, 24:30, 40:46]).abs().max() < 0.03


def test_a_hand_that_strikes_swings_and_finishes_its_swing():
    strikes = np.array([0, 1, 1, 0, 0, 0, 0, 1], bool)
    assert phases_of(strikes, strikes & False, 4).tolist() == [0, 1, 2, 3, 0, 0, 0, 1]
    assert phases_of(strikes & False, np.arange(8) == 2, 4).tolist() == [0, 0, 1, 2, 3, 0, 0, 0]
    assert phases_of(strikes, strikes & False, 1).tolist() == [0] * 8  # it does not move
    net, place = blocks(), Place((32, 48), LENS)
    net.take_swing(torch.tensor([[0, 0], [2, -1], [5, 0]]), placing=True)
    net.sprites[:] = torch.linspace(0.2, 1, HOTBAR_SLOTS)[:, None, None, None]
    place.slot = 3
    actions, changes = torch.zeros(1, 4, ACTION_SIZE), torch.zeros(1, 4, 2)
    actions[0, 1, BUTTON_INDEX["attack"]] = 1
    held = in_hand(net, [place], torch.zeros(1, 3, 32, 48), actions, changes=changes)
    assert place.swing == 0 and [int(part.sum()) for part in held.new[0]] == [36, 36, 18, 36]
    assert held.new[0, 1, 26:32, 39:45].all() and held.new[0, 2, 29:, 40:46].all()
    assert held.around[0, 23:32, 38:47].sum() == held.around.sum() and held.around[0, 30, 41]
    changes[0, 3, CHANGES.index("placed")] = 1
    held = in_hand(net, [place], torch.zeros(1, 3, 32, 48), 0 * actions, changes=changes)
    assert place.swing == 1 and held.new[0, 3, 26:32, 39:45].all()
    other = Place((32, 48), LENS)
    place.begin(np.zeros(5))
    other.restore(place.save())
    assert other.swing == 1 and other.slot == 3
    twice = net.swung((64, 96))
    assert twice == [(0, 0), (4, -2), (10, 0)]


def test_what_a_hand_holds_is_shown_to_the_bit_and_never_remembered():
    place = Place((32, 48), LENS)
    place.begin(np.array([0.5, 1.6, 0.5, 0.0, 0.0]))
    where = np.zeros((4, 32, 48), bool)
    where[:, 24:30, 40:46] = True
    place.in_hand = where, np.full((4, 32, 48, 3), 77, np.uint8)
    calm = np.zeros((4, 4, 6), np.float32)
    shown = place.sharpened(np.zeros((4, 32, 48, 3), np.uint8), calm, calm)
    assert (shown[where] == 77).all() and not shown[~where].any() and np.array_equal(place.covered, where[-1])
    place.remember(shown[-1], np.full((32, 48), 3.0, np.float32), 0.0)
    assert not place.memory.own[0][where[-1]].any() and place.memory.own[0][:20, :30].all()


def test_what_is_made_is_certain_and_settled():
    """Of the frames from the change on nothing is drawn anew."""
    work = np.zeros((4, 32, 48), np.uint8)
    work[2:, 8:16, 8:16], work[2:, 8:16, 16:24], work[2:, 16:24, 8:11] = DRAWN, OPEN, DRAWN
    view = Views(
        np.zeros((4, 32, 48, 3), np.uint8), work == 0, *[np.ones((4, 32, 48), np.float32)] * 2, np.zeros((4, 5)),
        worked=work,
    )  # fmt: skip
    last = torch.zeros(2, 4, 6, 8)
    new = np.zeros((2, 4, 32, 48), bool)
    new[1, 3, 24:28, 40:48] = True
    sure = certain([view, None], Held(np.zeros((2, 4), int), last, new), last)
    assert sure[0, 2:, 1, 1:3].all() and sure[0].sum() == 4 and sure[1, 3, 3, 5] and sure[1].sum() == 1
    assert certain([None], None, last) is None
    guess = settled(Guess.of_nothing(torch.zeros(2, 4, 4, 6, 8)), [view, None])
    assert guess.settled[0, 2:].all() and not guess.settled[0, :2].any() and not guess.settled[1].any()


def test_a_place_keeps_what_is_in_the_hand_and_how_far_things_are():
    place = Place((32, 48), LENS)
    assert place.slot == UNKNOWN and not place.kept.any()
    place.begin(np.array([0.0, 0, 0, 0, 0]))
    place.slot, place.kept = 4, np.full((32, 48), 2.5, np.float32)
    other = Place((32, 48), LENS)
    other.restore(place.save())
    assert other.slot == 4 and np.array_equal(other.kept, place.kept)
    other.remember(np.zeros((32, 48, 3), np.uint8), np.full((32, 48), 3.0, np.float32), 0.0)
    assert (other.memory.distances[0] == 2.5).all()
    older = {name: part for name, part in place.save().items() if name not in ("slot", "kept")}
    other.restore(older)
    assert other.slot == UNKNOWN and not other.kept.any()


def test_nobody_places_a_block_into_himself():
    """Looking down from where one stands there is room only under the feet, or for who is in the air."""
    eye = np.array([0.5, 1.62, 0.5, 0.0, 90.0])
    down = {int(face.before[1]): face for face in faces_ahead(eye) if face.axis == 1}
    assert not has_room(down[0], eye) and has_room(down[-1], eye)
    assert has_room(down[0], eye + [0, 1.0, 0, 0, 0])
    ahead = next(face for face in faces_ahead(np.array([0.5, 1.62, 0.5, 0.0, 20.0])) if face.before[2] >= 2)
    assert has_room(ahead, eye)
