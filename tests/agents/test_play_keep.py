"""Slots, films and recordings, without a window."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import FakeWorld
from PIL import Image

from latentcraft.agents import recorder
from latentcraft.agents.gif import LOOKS, write_gif
from latentcraft.agents.keep import last_entries, pictures_of, write_clip
from latentcraft.agents.session import Session
from latentcraft.agents.shot import PLAYED
from latentcraft.agents.slots import check_fits, read_game, slot_path, write_game
from latentcraft.agents.stage import Stage
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.model.episodes import list_episodes, read_distances, read_episode
from latentcraft.simulator.protocol import Start, WorldState
from latentcraft.simulator.worlds import make_world


@pytest.fixture
def make_session() -> Iterator[Callable[..., Session]]:
    sessions = []

    def make(seed: int = 3, noise_seed: int | None = None) -> Session:
        stage = Stage(FakeWorld(), make_twin=lambda world: FakeWorld(), make_truth=lambda world: FakeWorld())
        session = Session(stage, minutes=1)
        session.begin(Start(seed=seed, noise_seed=noise_seed))
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


def play(session: Session, count: int) -> list[np.ndarray]:
    actions = noop(1, session.spec.chunk)
    actions[..., YAW] = 2
    actions[..., BUTTON_INDEX["forward"]] = 1
    return [session.step(actions).frames[0].copy() for _ in range(count)]


def test_a_game_survives_on_disk(make_session, tmp_path: Path):
    session = make_session(noise_seed=9)
    play(session, 5)
    session.branch()
    play(session, 1)
    state, facts = session.state()
    path = slot_path(tmp_path / "saves", 4)
    write_game(path, state, facts)
    future = play(session, 3)

    other = make_session(8)
    state, facts = read_game(path)
    check_fits(path, state, other.state()[0])
    shot = other.resume(state, facts)
    assert facts.ticks == 24 and facts.start == Start(seed=3, noise_seed=9) and len(shot.beside) == 3
    np.testing.assert_array_equal(play(other, 3), future)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_starts_from_files_are_kept_too(make_session, tmp_path: Path):
    session = make_session()
    state, facts = session.state()
    facts = type(facts)(Start(noise_seed=0, media=tmp_path / "a b.png", frame=3))
    write_game(tmp_path / "x.safetensors", state, facts)
    assert read_game(tmp_path / "x.safetensors")[1].start == facts.start


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "text"])
def test_slots_that_cannot_be_read_are_named(make_session, damage: str, tmp_path: Path):
    session = make_session()
    path = slot_path(tmp_path, 2)
    write_game(path, *session.state())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "other":
        from safetensors.numpy import save

        path.write_bytes(save({"x": np.zeros(3)}, {"format": "latentcraft-1"}))
    else:
        path.write_text("hello")
    reason = {"missing": "slot-2 is empty", "other": "is not a saved game"}.get(damage, "slot-2.*it is torn")
    with pytest.raises(UserError, match=reason):
        read_game(path)


def test_slots_of_another_world_or_checkpoint_say_so(tmp_path: Path):
    def of(world: str, **meta) -> WorldState:
        return WorldState(world, {PLAYED: {"world": world, "meta": meta}}, {})

    path = slot_path(tmp_path, 1)
    check_fits(path, of("dream", checkpoint="a", task="free"), of("dream", checkpoint="a", task="free"))
    for state, now, reason in (
        (of("voxel"), of("dream"), "game of the world voxel; play it with world=voxel"),
        (of("dream", checkpoint="a"), of("dream", checkpoint="b"), "another checkpoint .*give checkpoint=FILE"),
        (of("dream", task="a"), of("dream", task="b"), "another task"),
    ):
        with pytest.raises(UserError, match=f"slot-1.*{reason}"):
            check_fits(path, state, now)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_the_last_seconds_as_a_film(make_session, suffix: str, tmp_path: Path):
    session = make_session()
    frames = np.concatenate(play(session, 20))
    entries = last_entries(session.timeline, 2.0, skip=4)
    pictures = list(pictures_of(entries))
    assert len(pictures) == 40
    assert np.abs(np.array(pictures).astype(int) - frames[36:76]).max() < 12
    path = tmp_path / f"film.{suffix}"
    write_clip(path, lambda: pictures)
    with av.open(str(path)) as video:
        assert sum(1 for _ in video.decode(video=0)) >= 30  # equal pictures of a GIF are one that lasts longer
    if suffix == "gif":
        with Image.open(path) as film:
            assert film.width >= 400
            total = 0
            for index in range(film.n_frames):
                film.seek(index)
                total += film.info["duration"]
            assert total == 2000


def test_films_show_what_the_window_did(make_session):
    session = make_session()
    play(session, 5)
    entries = last_entries(session.timeline, 1.0)
    height, width = session.spec.frame_size
    assert {picture.shape for picture in pictures_of(entries, truth=True)} == {(2 * height, 2 * width, 3)}
    session.branch()
    play(session, 2)
    entries = last_entries(session.timeline, 1.0)
    assert sum(map(len, entries)) < 20  # what came before the branch had other views
    assert {picture.shape for picture in pictures_of(entries)} <= {(height, 2 * width, 3), (2 * height, width, 3)}
    assert {picture.shape for picture in pictures_of(entries, truth=True)} == {(2 * height, 3 * width, 3)}


def test_films_with_other_names_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="film.txt"):
        write_clip(tmp_path / "film.txt", lambda: [np.zeros((16, 32, 3), np.uint8)])


def test_a_gif_is_made_to_fit(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (24, 48, 80, 3), dtype=np.uint8)
    frames[:12, :, :, 0] = 200
    path = tmp_path / "film.gif"
    sizes = []
    for megabytes, look in ((None, LOOKS[0]), (1.0, LOOKS[1]), (0.25, None)):
        made = write_gif(path, lambda: iter(frames), megabytes=megabytes)
        sizes.append(path.stat().st_size)
        assert look in (None, made) and (megabytes is None or sizes[-1] <= megabytes * 1e6)
        with Image.open(path) as film:
            assert film.n_frames == len(frames) // made.every and film.info["duration"] == 50 * made.every
            assert film.width == 80 * round(made.width / 80)
            film.seek(0)
            shown = np.asarray(film.convert("RGB").resize((80, 48), Image.Resampling.NEAREST)).astype(int)
        assert np.abs(shown - frames[0]).mean() < 40
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(UserError, match="even at its smallest it takes"):
        write_gif(path, lambda: iter(frames), megabytes=0.001)
    assert path.stat().st_size == sizes[-1] and list(tmp_path.iterdir()) == [path]


def test_long_play_becomes_several_whole_episodes(make_session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder, "PIECE_TICKS", 40)
    session = make_session()
    play(session, 2)
    session.record(tmp_path)
    frames = np.concatenate(play(session, 25))
    assert len(list_episodes(tmp_path)) == 2  # and the third is being written
    session.close()
    episodes = [read_episode(path) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert [len(episode) for episode in episodes] == [41, 41, 21]
    assert all(episode.actions[1:, YAW].min() == 2 and episode.rewards[1:].all() for episode in episodes)
    together = np.concatenate([episode.frames[1:] for episode in episodes]).astype(int)
    assert np.abs(together.mean((1, 2)) - frames.mean((1, 2))).mean() < 20  # colours jump from frame to frame
    assert len(list(tmp_path.iterdir())) == 6


def test_recordings_of_the_reference_world_know_poses_and_distances(tmp_path: Path):
    world = make_world("voxel", frame_size=(48, 80))
    session = Session(Stage(world), minutes=1)
    session.begin(Start(seed=11))
    session.record(tmp_path)
    before = world.game(0).pose
    play(session, 10)
    session.begin(Start(seed=12))
    play(session, 3)
    session.record(None)
    first, second = sorted(tmp_path.glob("*.jsonl"))
    episode = read_episode(first)
    assert episode.poses is not None and len(episode) == 41 and episode.seed == 11 and read_episode(second).seed == 12
    np.testing.assert_allclose(episode.poses[0], before, atol=1e-3)
    turned = np.diff(episode.poses[:, 3])
    np.testing.assert_allclose((turned + 180) % 360 - 180, 2, atol=1e-3)
    distances = read_distances(first)
    assert distances is not None and len(distances[0]) >= 5 and distances[1].shape[1:] == (48, 80)
    session.close()
    session.stage.close()
    world.close()


def test_recordings_of_one_second_are_all_kept(make_session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    session = make_session()
    for _ in range(3):
        session.record(tmp_path)
        play(session, 2)
    session.record(None)
    assert len(list_episodes(tmp_path)) == 3


def test_play_goes_on_where_recording_cannot(make_session, tmp_path: Path):
    session = make_session()
    (tmp_path / "file").touch()
    session.record(tmp_path / "file")
    play(session, 2)
    assert session.recorder is None and "recording stopped: cannot write" in session.notes.get()
    session.close()
