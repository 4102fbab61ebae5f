"""Training: resuming repeats an unbroken run, a torn state is named, and a tiny net learns what can be learned."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.model.autoencoder import AutoencoderConfig
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.dit import DiTConfig
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.latents import LatentDataset
from latentcraft.model.motion import MotionConfig
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train import loop
from latentcraft.model.train.adversary import AdversaryConfig
from latentcraft.model.train.autoencoder import AutoencoderStageConfig
from latentcraft.model.train.config import TrainConfig
from latentcraft.model.train.dynamics import DynamicsStageConfig
from latentcraft.model.train.motion import JUDGING, MotionStageConfig
from latentcraft.model.train.outcomes import OutcomesStageConfig
from latentcraft.model.train.run import main
from latentcraft.model.train.touch import TouchStageConfig
from latentcraft.model.train.whereabouts import WhereaboutsStageConfig
from latentcraft.model.whereabouts import WhereaboutsConfig

WIDTHS, DEPTHS = (16, 16), (1, 1)
QUICK = OptimizerConfig(warmup=5)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of a bright square that moves right while ``right`` is held."""
    directory = tmp_path_factory.mktemp("episodes")
    rng = np.random.default_rng(0)
    for number in range(4):
        with EpisodeWriter(directory / f"square-{number}", world="toy", seed=number, task="chop") as writer:
            x, frame = 0, np.full((32, 48, 3), 30, np.uint8)
            writer.first(frame)
            for tick in range(50):
                action = np.zeros(20, np.float32)
                action[3] = rng.random() < 0.5
                x = (x + 4 * int(action[3])) % 40
                shown = frame.copy()
                shown[12:20, x : x + 8] = 220
                writer.add(
                    action, shown, reward=float(tick % 10 == 0), terminated=tick == 49, changes=(x == 0, tick % 9 == 0)
                )
    return directory


def tiny_run(data: Path, out: Path, *, save_seconds: float = 1e9) -> TrainConfig:
    """Configure the whole way with nets of a few thousand weights."""
    return TrainConfig(
        data=data, out=out, frame_size=(32, 48), precision="fp32", accelerator="cpu", threads=1,
        save_seconds=save_seconds, sample_every=1000, held_out=0.3,
        autoencoder=AutoencoderStageConfig(
            steps=12, batch=4, optimizer=QUICK,
            model=AutoencoderConfig(
                encoder_widths=WIDTHS, encoder_depths=DEPTHS, decoder_widths=WIDTHS, decoder_depths=DEPTHS
            ),
        ),
        motion=MotionStageConfig(
            steps=6, batch=2, chunks=3, optimizer=QUICK, model=MotionConfig(width=16, fine_width=16, dilations=(1, 2))
        ),
        dynamics=DynamicsStageConfig(
            steps=14, batch=2, compile=False, optimizer=QUICK,
            bootstrap_share=0.5, bootstrap_start=3, bootstrap_stage=3, own_start=2, grid_share=0.3, clip_chunks=4,
            news_weight=3.0,
            model=DiTConfig(
                width=32, depth=3, head_size=16, context=5, refiner_width=16, refiner_layers=1, place=True,
                touch_width=16,
            ),
            adversary=AdversaryConfig(width=16, dilations=(1,), optimizer=QUICK),
        ),
        touch=TouchStageConfig(
            steps=5, batch=4, moments=12, own_share=0.5, own_chunks=1, optimizer=QUICK
        ),
        outcomes=OutcomesStageConfig(steps=4, clips=4, chunks=6, batch=8),
    )  # fmt: skip


@pytest.fixture
def config(episodes: Path, tmp_path: Path) -> TrainConfig:
    return tiny_run(episodes, tmp_path / "run")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "latentcraft.safetensors")


def test_an_interrupted_run_ends_with_the_same_weights_as_an_unbroken_one(config: TrainConfig, tmp_path: Path):
    main(config)
    unbroken = weights(config.out)

    broken = replace(config, out=tmp_path / "broken", max_seconds=0.0)  # every run of a stage stops after one step
    for _ in range(100):
        try:
            main(broken)
            break
        except loop.Interrupted as stop:
            assert "the same command goes on" in str(stop)
    again = weights(broken.out)
    assert unbroken.keys() == again.keys()
    assert all(torch.equal(unbroken[key], again[key]) for key in unbroken)

    world = load_checkpoint(config.out / "latentcraft.safetensors")
    assert world.frame_size == (32, 48)
    assert world.provenance["dynamics_steps"] == 14
    assert (config.out / "samples" / "dynamics-000014.png").exists()
    logged = [json.loads(line) for line in (config.out / "dynamics.log.jsonl").read_text().splitlines()]
    assert {"from_noise", "shuffled_ratio"} <= set(logged[-1])


def test_a_run_begins_with_a_checkpoint_and_keeps_what_it_is_told_to(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(config)
    first = config.out / "latentcraft.safetensors"
    plain = replace(config.dynamics, model=replace(config.dynamics.model, width=48))
    again = replace(
        config, out=tmp_path / "again", begin=first, keep=("autoencoder", "motion"), dynamics=plain,
    )  # fmt: skip
    main(again)
    before, after = weights(config.out), weights(again.out)
    kept = [name for name in before if name.startswith(("autoencoder.", "motion."))]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert "dynamics: " in (said := capsys.readouterr().out) and "begins anew" in said  # another width fits nothing
    assert not (again.out / "motion.state.pt").exists()
    provenance = load_checkpoint(again.out / "latentcraft.safetensors").provenance
    assert provenance["autoencoder_steps"] == 12  # of the run before
    assert provenance["dynamics_steps"] == 14  # of this one alone, since nothing fitted
    further = replace(again, out=tmp_path / "further", dynamics=config.dynamics, keep=("autoencoder", "motion"))
    with pytest.raises(loop.Interrupted):
        main(replace(further, max_seconds=0.0))
    state = torch.load(further.out / "dynamics.state.pt", weights_only=True)["stage"]["masters"]
    moved = [(state[name.removeprefix("dit.")].flatten() - value.flatten().float()).abs().max().item()
             for name, value in before.items() if name.startswith("dit.layers")]  # fmt: skip
    assert 0 < max(moved) < 0.1  # one step away from where it began
    other = replace(config.motion, model=replace(config.motion.model, width=24))
    with pytest.raises(UserError, match="keep=motion: .* has no such net of the shape"):
        main(replace(further, out=tmp_path / "misfit", motion=other))
    bare = replace(config.dynamics, model=replace(config.dynamics.model, touch_width=0))
    with pytest.raises(UserError, match=r"keep=dynamics: .* has touch\..* would be lost: .* give dynamics\.model"):
        main(replace(further, out=tmp_path / "lost", keep=("autoencoder", "motion", "dynamics"), dynamics=bare))
    with pytest.raises(UserError, match="keep=motion needs the checkpoint"):
        replace(config, keep=("motion",))
    with pytest.raises(UserError, match="keep=bank: .* has no bank"):
        main(replace(further, out=tmp_path / "bankless", keep=("bank",)))
    idle = {name: replace(getattr(further, name), steps=0) for name in ("touch", "outcomes")}
    nets = ("autoencoder", "depth", "body", "hand", "deeds", "goals", "motion", "dynamics", "bank")
    few = replace(further, keep=nets, bank=replace(further.bank, frames=8), **idle)
    assert not few.learns_from_latents  # the map of blocks reads videos
    for name in ("autoencoder", "dynamics", "bank"):
        assert replace(few, keep=tuple(net for net in nets if net != name)).learns_from_latents
    assert replace(few, outcomes=further.outcomes).learns_from_latents
    with pytest.raises(UserError, match="keep=nose is no stage"):
        replace(config, begin=first, keep=("nose",))

    shape = replace(config.motion.model, judge_dilations=(1,))
    judging = replace(
        further, out=tmp_path / "judging", keep=("autoencoder",), stop_after="motion",
        motion=replace(config.motion, flow_weight=0.0, model=shape),
    )  # fmt: skip
    main(judging)
    state = torch.load(judging.out / "motion.state.pt", weights_only=True)["stage"]["masters"]
    flow = [name for name in state if not name.startswith(JUDGING)]
    assert flow and all(torch.equal(state[name].flatten(), before[f"motion.{name}"].flatten()) for name in flow)
    assert state["judge_wide.0.weight"].any()  # new, and has learned


RUN = """
import sys
from pathlib import Path
from tests.model.test_train import tiny_run
from latentcraft.model.train.run import main
main(tiny_run(Path(sys.argv[1]), Path(sys.argv[2]), save_seconds=0.0))
"""


def test_killed_again_and_again_it_ends_with_the_same_weights(episodes: Path, tmp_path: Path, root: Path):
    main(tiny_run(episodes, tmp_path / "unbroken"))
    out, kills = tmp_path / "killed", 0
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(episodes), str(out)], cwd=root, stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        saves: set[tuple[str, int]] = set()
        while process.poll() is None and len(saves) < 9:  # a few steps further, at no particular moment
            for state in out.glob("*.state.pt"):
                saves.add((state.name, state.stat().st_mtime_ns))
            time.sleep(0.002)
        if process.poll() is not None:
            break
        process.kill()  # SIGKILL: nothing is cleaned up
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 2
    unbroken, again = weights(tmp_path / "unbroken"), weights(out)
    assert unbroken.keys() == again.keys()
    assert all(torch.equal(unbroken[key], again[key]) for key in unbroken)


def test_a_save_that_fails_keeps_the_last_state(config: TrainConfig, monkeypatch):
    with pytest.raises(loop.Interrupted):
        main(replace(config, max_seconds=0.0))
    state = config.out / "autoencoder.state.pt"
    before = state.read_bytes()

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        main(config)
    assert state.read_bytes() == before
    assert not list(config.out.glob(".*tmp*"))


def test_a_torn_state_and_another_shape_are_named(config: TrainConfig):
    with pytest.raises(loop.Interrupted):
        main(replace(config, max_seconds=0.0))
    other = replace(config.autoencoder, model=replace(config.autoencoder.model, encoder_depths=(1, 2)))
    with pytest.raises(UserError, match=r"another autoencoder\.model"):
        main(replace(config, autoencoder=other))
    state = config.out / "autoencoder.state.pt"
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cannot resume from .*autoencoder\.state\.pt"):
        main(config)


def test_a_changed_autoencoder_encodes_anew_and_what_learned_with_the_old_one_is_refused(config: TrainConfig):
    main(config)
    latents = {path: path.read_bytes() for path in (config.out / "latents").iterdir()}
    main(config)
    assert latents == {path: path.read_bytes() for path in (config.out / "latents").iterdir()}
    longer = replace(config, autoencoder=replace(config.autoencoder, steps=14))
    with pytest.raises(UserError, match="with another autoencoder or scene than"):
        main(longer)
    assert all(path.read_bytes() != before for path, before in latents.items())
    (config.out / "motion.state.pt").unlink()
    with pytest.raises(UserError, match="another autoencoder, scene or motion net"):
        main(longer)
    (config.out / "dynamics.state.pt").unlink()
    with pytest.raises(UserError, match="on the guesses of other nets"):
        main(longer)
    (config.out / "touch.state.pt").unlink()
    with pytest.raises(UserError, match="on the dreams of another transformer"):
        main(longer)
    (config.out / "outcomes.state.pt").unlink()
    main(longer)


def test_no_episodes_and_bad_values_are_named(config: TrainConfig, tmp_path: Path):
    with pytest.raises(UserError, match="record"):
        main(replace(config, data=tmp_path / "nothing"))
    with pytest.raises(UserError, match="multiples of 16"):
        replace(config, frame_size=(30, 48))
    with pytest.raises(UserError, match="precision"):
        replace(config, precision="int8")
    with pytest.raises(UserError, match="accelerator=abacus"):
        main(replace(config, accelerator="abacus"))
    with pytest.raises(UserError, match="sample_every"):
        replace(config, sample_every=0)
    with pytest.raises(UserError, match="channels"):
        replace(config, dynamics=replace(config.dynamics, model=DiTConfig(width=32, depth=3, head_size=16, channels=4)))
    with pytest.raises(UserError, match="same camera"):
        replace(config, whereabouts=WhereaboutsStageConfig(model=WhereaboutsConfig(field_of_view=90.0)))
    with pytest.raises(UserError, match=r"whereabouts\.batch must be at least 1"):
        replace(config, whereabouts=WhereaboutsStageConfig(batch=0))
    (config.out).mkdir()
    (config.out / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json is not the configuration of a training run"):
        main(config)


def test_a_bad_episode_is_skipped_with_its_name(config: TrainConfig, episodes: Path, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for file in episodes.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    torn = data / "square-1.mp4"
    torn.write_bytes(torn.read_bytes()[:300])
    with pytest.warns(UserWarning, match="skipped: .*square-1"), pytest.raises(loop.Interrupted):
        main(replace(config, data=data, max_seconds=0.0))


def test_clips_pair_actions_with_the_frames_they_led_to_and_stay_inside_an_episode(tmp_path: Path):
    paths = []
    for number, frames in enumerate((30, 12, 25)):
        stamp = (100 * number + torch.arange(frames)).float()
        path = tmp_path / f"{number}.safetensors"
        save_file(
            {
                "latents": stamp[:, None, None, None].expand(-1, 1, 1, 2).half().contiguous(),
                "actions": stamp[:, None].expand(-1, 20).contiguous(),
                "rewards": (torch.arange(frames) == 20).float(),
                "terminated": torch.zeros(frames, dtype=torch.bool),
                "task": torch.tensor([number]),
                "eyes": stamp[:, None].double().expand(-1, 5).contiguous(),
                "changes": torch.full((frames, 2), torch.nan),
                "spots": torch.full((frames, 2, 3), torch.nan),
            },
            path,
        )
        paths.append(path)
    data = LatentDataset.load(paths, clip_frames=20)
    assert len(data.latents) == 55  # the episode of 12 frames is shorter than a clip
    clips = data.sample(200, 5, 4, torch.Generator().manual_seed(0))
    stamps = clips.latents[..., 0, 0, 0]
    assert torch.equal(stamps, clips.actions[..., 0])
    assert torch.equal(stamps.double(), clips.eyes[..., 0])
    assert (stamps.flatten(1).diff() == 1).all()
    assert torch.equal(clips.task, (stamps[:, 0, 0] // 100).long())
    assert set(clips.task.tolist()) == {0, 2}
    again = data.sample(200, 5, 4, torch.Generator().manual_seed(0))
    assert torch.equal(again.latents, clips.latents)
    short = data.sample(400, 1, 4, torch.Generator().manual_seed(0))
    stamps = short.latents[:, 0, :, 0, 0, 0]
    assert set(stamps.flatten().tolist()) == {*range(30), *range(200, 225)}  # every frame, the last ones too
    # A fifth is drawn around the events at frame 20; by chance it would be in 4 of every 24 to 27 clips.
    assert 0.25 < ((stamps % 100 == 20).any(1)).float().mean() < 0.45
    # Every button is held all the time, so each episode has one deed, which is done when it ends.
    assert torch.equal(data.deeds, torch.tensor([[29, 0], [54, 1]]))
    with pytest.raises(UserError, match="record longer"):
        LatentDataset.load(paths, clip_frames=64)
    with pytest.raises(UserError, match="no episode has the 32 frames"):
        data.sample(1, 8, 4, torch.Generator())


def test_clips_can_be_drawn_around_what_was_dug_or_placed(tmp_path: Path):
    actions = torch.zeros(400, 20)
    actions[280:301, BUTTON_INDEX["use"]] = 1  # what counts is the last tick of holding it
    path = tmp_path / "episode.safetensors"
    frames = torch.arange(400).float()
    save_file(
        {
            "latents": frames[:, None, None, None].expand(-1, 1, 1, 2).half().contiguous(), "actions": actions,
            "rewards": torch.zeros(400), "terminated": torch.zeros(400, dtype=torch.bool), "task": torch.tensor([0]),
            "eyes": torch.zeros(400, 5, dtype=torch.float64), "changes": torch.full((400, 2), torch.nan),
            "spots": torch.full((400, 2, 3), torch.nan),
        },
        path,
    )  # fmt: skip
    data = LatentDataset.load([path], clip_frames=20)

    def share(deed_share: float) -> float:
        clips = data.sample(400, 5, 4, torch.Generator().manual_seed(0), deed_share=deed_share)
        return (clips.latents[..., 0, 0, 0] == 300).flatten(1).any(1).float().mean().item()

    assert torch.equal(data.deeds, torch.tensor([[300, 0]]))
    assert share(1.0) == 1
    assert share(0.0) < 0.12  # by chance 20 of 381 starts
    assert 0.4 < share(0.5) < 0.65
    told = load_file(path)
    told["changes"] = torch.zeros(400, 2)
    told["changes"][[250, 290], [0, 1]] = 1  # where the world tells, nobody has to infer it from buttons
    save_file(told, path)
    data = LatentDataset.load([path], clip_frames=20)
    assert torch.equal(data.deeds, torch.tensor([[250, 0], [290, 0]]))


class Falling:
    """A stage of one weight, whose loss is NaN from step 6 on while its learning rate is too large."""

    name = "falling"

    def __init__(self, sick_above: float) -> None:
        self.net = torch.nn.Linear(1, 1)
        self.average = torch.nn.Linear(1, 1)
        self.optimizer = MasterOptimizer(self.net, OptimizerConfig(warmup=1))
        self.sick_above = sick_above

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        self.net(torch.ones(1, 1)).sum().backward()
        self.optimizer.step(step, steps)
        return {"loss": float("nan") if step > 5 and self.optimizer.ease > self.sick_above else 1.0}

    def validate(self, step: int, directory: Path) -> dict[str, float]:
        return {"figure": 1.0}

    def state_dict(self) -> dict[str, object]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.optimizer.load_state_dict(state)


def test_a_diverged_run_goes_back_to_its_last_good_state_at_half_the_rate(tmp_path: Path):
    config = loop.LoopConfig(steps=30, save_seconds=0.0)
    with pytest.warns(UserWarning, match="falling diverged at step 16: .*back to step 6 with half the learning rate"):
        progress = loop.run_stage(Falling(sick_above=0.6), config, tmp_path)
    assert (progress.step, progress.rollbacks) == (30, 1)
    again = Falling(sick_above=0.6)
    assert loop.run_stage(again, replace(config, steps=31), tmp_path).rollbacks == 1  # resumed, it stays careful
    assert again.optimizer.ease == 0.5


@pytest.mark.filterwarnings("ignore:falling diverged")
def test_a_run_that_keeps_diverging_gives_up_and_says_so(tmp_path: Path):
    with pytest.raises(UserError, match="falling diverged at step 16.*lower the learning rate"):
        loop.run_stage(Falling(sick_above=0.0), loop.LoopConfig(steps=30, save_seconds=0.0), tmp_path)
    assert loop.saved_step("falling", tmp_path) == 6


def test_figures_reach_the_journal_and_tensorboard(tmp_path: Path):
    loop.run_stage(Falling(sick_above=2.0), loop.LoopConfig(steps=4, log_every=2, sample_every=4), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "falling.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 4]
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "falling"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 1.0), (4, 1.0)]
    assert [event.step for event in events.Scalars("figure")] == [4]
