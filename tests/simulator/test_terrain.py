import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.voxel import blocks as b
from latentcraft.simulator.voxel import terrain as t
from latentcraft.simulator.voxel.caption import describe
from latentcraft.simulator.voxel.sky import WEATHER, sky_at
from latentcraft.simulator.voxel.textures import atlas, emissive

SEEDS = (0, 7, 900_001)


@pytest.fixture(scope="module")
def maps() -> dict[int, t.Terrain]:
    return {seed: t.generate(seed) for seed in SEEDS}


def test_shapes_and_floor(maps):
    for terrain in maps.values():
        assert terrain.blocks.shape == (t.MAP_SIZE, t.MAP_SIZE, t.MAP_HEIGHT) and terrain.blocks.dtype == np.uint8
        assert terrain.blocks.flags.c_contiguous
        assert terrain.biome.dtype == np.uint8 and terrain.biome.max() < len(t.BIOMES)
        assert terrain.surface.dtype == np.int16
        assert (terrain.blocks[:, :, 0] == b.BEDROCK).all()
        assert terrain.blocks.max() < len(b.NAMES)
        assert (terrain.blocks[:, :, -1] == b.AIR).all()


def test_same_seed_same_map_other_seed_other_map(maps):
    again = t.generate(7)
    for left, right in zip(maps[7], again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (maps[0].blocks != maps[7].blocks).mean() > 0.02
    assert (t.generate(7 + 2**40).blocks != maps[7].blocks).mean() > 0.02


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7", None, True])
def test_bad_seed_is_named(seed):
    with pytest.raises(UserError, match="seed"):
        t.generate(seed)


def test_no_seam(maps):
    """Neighbours across the edge differ no more than neighbours elsewhere."""
    for terrain in maps.values():
        for axis in (0, 1):
            steps = np.abs(terrain.surface - np.roll(terrain.surface, 1, axis)).astype(float)
            lines = steps.mean(1 - axis)  # one mean step for each pair of neighbouring lines
            assert lines[0] <= lines[1:].max()


def test_every_map_has_every_kind_of_place(maps):
    for seed, terrain in maps.items():
        present = {b.NAMES[code] for code in np.unique(terrain.blocks)}
        assert not set(b.NAMES) - {"beacon", "marker"} - present, seed
        share = np.bincount(terrain.biome.ravel(), minlength=len(t.BIOMES)) / terrain.biome.size
        for biome in (t.PLAINS, t.FOREST, t.DESERT, t.HILLS, t.OCEAN):
            assert share[biome] > 0.03, (seed, t.BIOMES[biome])
        assert share[t.SNOWY] + share[t.SNOWY_FOREST] > 0.03
        assert terrain.surface.max() >= t.SEA_LEVEL + 15
        water = (terrain.blocks == b.WATER) | (terrain.blocks == b.ICE)
        assert 1 <= water.sum(2).max() <= 5
        assert not water[:, :, t.SEA_LEVEL + 1 :].any()
        # Roofed air under natural rock above the sea: caves and overhangs.
        rock = terrain.blocks == b.STONE
        roofed = (np.cumsum(rock[:, :, ::-1], 2)[:, :, ::-1] > 0) & (terrain.blocks == b.AIR)
        assert roofed.sum() > 1000


def test_surface_is_the_highest_ground(maps):
    x, z = np.mgrid[: t.MAP_SIZE, : t.MAP_SIZE]
    built = [b.AIR, b.WATER, b.LEAVES, b.PINE_LEAVES, b.LOG, b.CACTUS, b.GLASS, b.ICE]
    for terrain in maps.values():
        assert not np.isin(terrain.blocks[x, z, terrain.surface], built).any()


def test_spawn_is_dry_open_and_free_to_see(maps):
    for terrain in maps.values():
        for seed in range(60):
            x, z, yaw = t.find_spawn(terrain, seed)
            y = terrain.surface[x, z]
            assert y >= t.SEA_LEVEL
            assert (terrain.blocks[x, z, y + 1 :] == b.AIR).all()
            assert terrain.blocks[x, z, y] not in (b.WATER, b.ICE)
            for ahead in (1, 2):
                px = int(np.floor(x + 0.5 - ahead * np.sin(np.radians(yaw)))) % t.MAP_SIZE
                pz = int(np.floor(z + 0.5 + ahead * np.cos(np.radians(yaw)))) % t.MAP_SIZE
                assert terrain.blocks[px, pz, y + 2] == b.AIR
        assert t.find_spawn(terrain, 3) == t.find_spawn(terrain, 3)
        assert len({t.find_spawn(terrain, seed)[:2] for seed in range(20)}) > 15


def test_beacon_stands_at_its_distance_on_dry_ground(maps):
    for terrain in maps.values():
        for seed in range(20):
            x, z, _ = t.find_spawn(terrain, seed)
            px, py, pz = t.beacon_site(terrain, x, z, seed, 30.0)
            away = [(d + 128) % 256 - 128 for d in (px - x, pz - z)]
            assert 14 <= np.hypot(*away) <= 46
            assert py == terrain.surface[px, pz] + 1 > t.SEA_LEVEL
            blocks = terrain.blocks.copy()
            t.place_beacon(blocks, px, py, pz)
            assert 10 <= (blocks[px, pz] == b.BEACON).sum() <= 14
            assert blocks[px, pz, py] == b.BEACON and blocks[px, pz, py - 1] != b.AIR


def test_bad_beacon_distance_is_named(maps):
    with pytest.raises(UserError, match="distance"):
        t.beacon_site(maps[0], 0, 0, 0, float("nan"))


def test_place_beacon_wraps_round():
    blocks = np.zeros((t.MAP_SIZE, t.MAP_SIZE, t.MAP_HEIGHT), np.uint8)
    t.place_beacon(blocks, 255, 50, 0)
    assert (blocks[255, 0] == b.BEACON).any() and (blocks[0, 0] == b.BEACON).any()
    assert (blocks[255, 255] == b.BEACON).any()


def test_atlas_tells_materials_apart():
    tiles = atlas()
    assert tiles.shape == (len(b.NAMES), 3, 16, 16, 3) and tiles.dtype == np.uint8
    np.testing.assert_array_equal(tiles, atlas())
    means = tiles[1:, 0].reshape(len(b.NAMES) - 1, -1, 3).mean(1)
    gaps = np.linalg.norm(means[:, None] - means[None], axis=-1) + 1e3 * np.eye(len(means))
    assert gaps.min() > 5
    glow = emissive()
    assert glow.shape == (len(b.NAMES),) and glow[b.BEACON] and glow[b.GLOWSTONE] and not glow[b.STONE]


def test_sky_stays_in_range_all_day():
    for weather in range(len(WEATHER)):
        for time in np.linspace(0, 1, 97)[:-1]:
            sky = sky_at(float(time), weather)
            assert 0.35 <= sky.light <= 1
            for colour in (sky.zenith, sky.horizon, sky.sun_colour):
                assert (
                    colour.shape == (3,) and colour.dtype == np.float32 and (colour >= 0).all() and (colour <= 1).all()
                )
            assert np.linalg.norm(sky.sun_direction) == pytest.approx(1, abs=1e-5)
            assert sky.rain == (WEATHER[weather] == "rain")
    assert sky_at(0.25, 0).light == 1 and sky_at(0.25, 0).sun_direction[1] > 0.9
    dusk = sky_at(0.5, 0).horizon
    assert dusk[0] > dusk[1] > dusk[2]


def test_sky_is_smooth():
    light = [float(sky_at(k / 1000, 0).light) for k in range(1001)]
    assert np.abs(np.diff(light)).max() < 0.02


@pytest.mark.parametrize(("time", "weather"), [(float("nan"), 0), (0.1, 3), (0.1, -1)])
def test_bad_sky_is_named(time, weather):
    with pytest.raises(UserError, match="time of day|weather"):
        sky_at(time, weather)


def test_captions():
    assert describe(t.SNOWY_FOREST, 0.5, 1, task="free") == "a snowy forest at dusk, overcast"
    captions = {describe(k, 0.3, w, task=task) for k in range(len(t.BIOMES)) for w in range(3) for task in TASKS}
    assert len(captions) == len(t.BIOMES) * 3 * (len(TASKS) - 1)  # both navigate tasks read alike
    with pytest.raises(UserError, match="fly"):
        describe(0, 0.0, 0, task="fly")
    with pytest.raises(UserError, match="biome"):
        describe(99, 0.0, 0, task="free")
