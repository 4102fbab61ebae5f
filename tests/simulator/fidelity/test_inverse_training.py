"""Training of the inverse dynamics network, on pictures simple enough to learn from in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.train.loop import Interrupted
from latentcraft.simulator.fidelity.inverse_dynamics import (
    READ_BUTTONS,
    InverseDynamics,
    InverseDynamicsConfig,
    load_inverse_dynamics,
)
from latentcraft.simulator.fidelity.inverse_training import (
    ClipSampler,
    InverseTrainingConfig,
    Recordings,
    choose_thresholds,
    disturb,
    load_recordings,
    train_inverse_dynamics,
)

SIZE = (16, 32)
FORWARD = BUTTON_INDEX["forward"]
TINY = InverseTrainingConfig(
    steps=300,
    batch=6,
    lengths=(6, 9),
    model=InverseDynamicsConfig(frame_size=SIZE, width=6, matched=8, reach=(1, 2), pair_width=16, hidden=16),
    optimizer=OptimizerConfig(matrix_lr=0.02, other_lr=3e-3, warmup=5, ema=0.9),
)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes of a noise picture that flashes where the player walks and slides where the camera turns."""
    folder = tmp_path_factory.mktemp("episodes")
    rng = np.random.default_rng(0)
    for number in range(6):
        picture = rng.integers(0, 200, (4, 16, 3)).repeat(4, 0).repeat(8, 1).astype(np.uint8)
        with EpisodeWriter(folder / f"slide-{number}") as writer:
            writer.first(picture[:, : SIZE[1]])
            offset = 0
            for _ in range(30):
                action = noop()
                action[FORWARD], turn = rng.random() < 0.4, int(rng.integers(-1, 2))
                action[YAW] = 3 * turn
                offset += 8 * turn
                frame = np.roll(picture, -offset, 1)[:, : SIZE[1]].copy()
                frame[:8] = np.where(action[FORWARD], 255, frame[:8])
                writer.add(action, frame)
    return folder


def test_training_learns_writes_and_goes_on_after_a_break(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    with pytest.raises(Interrupted):
        train_inverse_dynamics(episodes, tmp_path / "broken", config=TINY, max_seconds=0.0)
    assert (tmp_path / "broken" / "inverse.state.pt").exists()
    assert not (tmp_path / "broken" / "inverse_dynamics.safetensors").exists()
    resumed = train_inverse_dynamics(episodes, tmp_path / "broken", config=TINY)
    assert resumed["button_f1@forward"].value > 0.8
    assert np.isnan(resumed["button_f1@sneak"].value)  # nobody sneaked
    network = load_inverse_dynamics(tmp_path / "broken" / "inverse_dynamics.safetensors")
    assert network.provenance["steps"] == 300 and network.config == TINY.model
    assert network.provenance["held_out"]["button_f1@forward"] > 0.8
    assert "button_f1@forward" in capsys.readouterr().out
    whole = train_inverse_dynamics(episodes, tmp_path / "whole", config=TINY)
    assert whole["camera_mean"].value == pytest.approx(resumed["camera_mean"].value, abs=1e-6)


def test_clips_pair_every_two_frames_with_the_action_between_them():
    count = 40
    frames = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, *SIZE, 3)
    actions = noop(count)
    actions[:, YAW] = np.arange(count)  # the action that led to frame i is called i
    actions[33, BUTTON_INDEX["sneak"]] = 1
    data = Recordings(frames, actions, np.array([0, 18, count]))
    sampler = ClipSampler(data, replace(TINY, batch=64, rare_share=0.5))
    sneaking = 0
    for step in range(6):
        clip, between = sampler.sample(step)
        assert 6 <= clip.shape[1] <= 9 and between.shape[1] == clip.shape[1] - 1
        numbers = clip[:, :, 0, 0, 0].float()
        assert torch.equal(numbers[:, 1:], between[..., YAW])
        assert (numbers.diff(dim=1) == 1).all()
        assert not ((numbers[:, 0] < 18) & (numbers[:, -1] >= 18)).any(), "a clip must not cross episodes"
        again = sampler.sample(step)
        assert torch.equal(again[0], clip) and torch.equal(again[1], between)
        sneaking += int(between[..., BUTTON_INDEX["sneak"]].any(1).sum())
    assert sneaking > 0.5 * 6 * 64  # one tick in forty, yet half of the clips and more are laid around it


def test_a_button_gets_the_threshold_of_its_best_f1():
    class Fixed(InverseDynamics):
        """Says 0.3 for forward where it is held and 0.2 where it is not; 0.9 for sneak, which nobody holds."""

        def read(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            probabilities = torch.full((*features.shape[:2], len(READ_BUTTONS)), 0.01)
            held = torch.from_numpy(actions[1:, FORWARD])
            probabilities[..., FORWARD] = 0.2 + 0.1 * held
            probabilities[..., BUTTON_INDEX["sneak"]] = 0.9
            return probabilities.logit(), features[..., :2]

    actions = noop(20)
    actions[::3, FORWARD] = 1
    data = Recordings(torch.zeros(20, *SIZE, 3, dtype=torch.uint8), actions, np.array([0, 20]))
    thresholds = choose_thresholds(Fixed(TINY.model), data)
    assert thresholds[FORWARD] == pytest.approx(0.25)
    assert thresholds[BUTTON_INDEX["sneak"]] == pytest.approx(0.5)  # nobody sneaks: nothing to choose by
    assert thresholds[BUTTON_INDEX["back"]] == pytest.approx(0.5)


def test_a_disturbed_clip_is_the_same_scene_and_a_function_of_its_seed():
    torch.manual_seed(0)
    scene = torch.rand(4, 1, 3, *SIZE).expand(4, 5, 3, *SIZE) * 2 - 1
    one, other = (disturb(scene, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert one.shape == scene.shape and torch.isfinite(one).all()
    assert torch.equal(one, disturb(scene, torch.Generator().manual_seed(1))) and not torch.equal(one, other)
    for clip, true in zip(one, scene, strict=True):
        likeness = torch.corrcoef(torch.stack([clip.mean(0).flatten(), true[0].flatten()]))[0, 1]
        assert likeness > 0.3


def test_recordings_hold_evenly_spaced_episodes_up_to_a_limit(episodes: Path):
    paths = sorted(episodes.glob("*.jsonl"))
    whole = load_recordings(paths, 10_000, SIZE)
    assert len(whole.frames) == len(whole.actions) == 6 * 31 and len(whole.episodes()) == 6
    assert len(load_recordings(paths, 3 * 31, SIZE).episodes()) == 3


def test_what_cannot_be_trained_on_is_refused(episodes: Path, tmp_path: Path):
    with pytest.raises(UserError, match="longer"):
        train_inverse_dynamics(episodes, tmp_path, config=replace(TINY, lengths=(16, 32)))
    with pytest.raises(UserError, match="at least 3"):
        train_inverse_dynamics(tmp_path, tmp_path)
