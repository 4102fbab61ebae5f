"""``latentcraft train``: autoencoder, encode, depth, body, hand, deeds, goals, matter, completion, whereabouts, motion,
dynamics, touch, outcomes; all resume.

``torchrun --nproc-per-node=N -m latentcraft train ...`` trains with N processes (:mod:`latentcraft.model.train.ranks`).
"""

import json
import platform
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latentcraft import __version__
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.checkpoint import WorldModel, load_checkpoint, save_checkpoint
from latentcraft.model.episodes import list_episodes
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import LatentDataset
from latentcraft.model.precision import fast_dtype
from latentcraft.model.scene import Scene
from latentcraft.model.tasks import TASKS
from latentcraft.model.train.autoencoder import AutoencoderStage, load_frames
from latentcraft.model.train.bank import kept_bank
from latentcraft.model.train.body import BodyStage
from latentcraft.model.train.completion import CompletionStage, Surveyed, look_through
from latentcraft.model.train.config import BANK, NETS, STAGES, TrainConfig
from latentcraft.model.train.deeds import DeedStage, tasks_of_deeds
from latentcraft.model.train.depth import DepthData, DepthStage
from latentcraft.model.train.dynamics import DynamicsStage
from latentcraft.model.train.encode import encode_episodes
from latentcraft.model.train.goal_search import search_both
from latentcraft.model.train.goals import GoalStage, tasks_of_goals
from latentcraft.model.train.hand import HandStage
from latentcraft.model.train.loop import Interrupted, LoopConfig, Progress, Stage, run_stage, saved_step
from latentcraft.model.train.matter import Gathered, MatterStage, gather
from latentcraft.model.train.motion import MotionStage
from latentcraft.model.train.outcomes import OutcomesStage
from latentcraft.model.train.ranks import Ranks
from latentcraft.model.train.survey import survey
from latentcraft.model.train.touch import TouchStage
from latentcraft.model.train.whereabouts import WhereaboutsStage

FEW = 32
"""Episodes, of those to learn from and of those held out, that are encoded where nothing learns from latents."""


def main(config: TrainConfig) -> None:
    """Run every stage that is not done yet."""
    if config.threads:
        torch.set_num_threads(config.threads)
    ranks, device = Ranks.launch(config.accelerator, shard=config.shard)
    try:
        train(config, ranks, device)
        ranks.leave()
    except Interrupted:
        if ranks.first:
            raise
        raise SystemExit(2) from None  # the first process says it for all


def train(config: TrainConfig, ranks: Ranks, device: str) -> None:
    """Run every stage that is not done yet as one of ``ranks``."""
    for name in STAGES:
        if name not in config.keep:
            ranks.check_batch(f"{name}.batch", getattr(config, name).batch)
    dtype = ranks.told(precision(config, device))
    episodes = list_episodes(config.data)
    if len(episodes) < 2:
        raise UserError(f"{config.data} holds {len(episodes)} episodes and training needs at least 2; record more")
    training, held_out = split(episodes, config.held_out)
    out = config.out
    if ranks.first:
        remember(config, dtype, out / "config.json")
        print(f"{len(training)} + {len(held_out)} episodes, {dtype}, {machine(ranks)}, {device} -> {out}")
    ranks.wait()  # the others must not read the directory half made

    def loop(steps: int) -> LoopConfig:
        return LoopConfig(steps, config.save_seconds, sample_every=config.sample_every, max_seconds=config.max_seconds)

    alike: dict[str, Any] = {"seed": config.seed, "dtype": dtype, "device": device, "ranks": ranks}
    begun = None if config.begin is None else load_checkpoint(config.begin, dtype=dtype, device=device)
    if begun is not None and begun.bank is None and BANK in config.keep:
        raise UserError(f"keep=bank: {config.begin} has no bank; leave it out of keep to choose one")
    done: dict[str, Progress] = {}
    inherited = set(config.keep)
    if begun is not None and AutoencoderStage.name in config.keep:
        autoencoder = begun.autoencoder
        channels = autoencoder.config.channels
        if channels != config.dynamics.model.channels:
            raise UserError(f"{config.begin} has {channels} latent channels; set dynamics.model.channels={channels}")
    else:
        frames = check = torch.empty(0, *config.frame_size, 3, dtype=torch.uint8)
        if saved_step(AutoencoderStage.name, out) < config.autoencoder.steps:  # else reading videos is for nothing
            frames = load_frames(training, config.autoencoder.max_frames, config.frame_size)
            check = load_frames(held_out + training[:1], 2048, config.frame_size)
        first = AutoencoderStage(config.autoencoder, frames, check, **alike)
        del frames
        if begun is not None and take_over(begun.autoencoder, first):
            inherited.add(first.name)
        done[first.name] = run_stage(first, loop(config.autoencoder.steps), out, ranks)
        autoencoder = first.result()
        del first

    needed = episodes
    if not config.learns_from_latents:  # what is kept is not changed by them
        needed = [*training[:: -(-len(training) // FEW)], *held_out[:: -(-len(held_out) // FEW)]]
    files = encode_episodes(autoencoder, needed, out / "latents", config.frame_size, device=device, ranks=ranks)
    if config.stop_after == "autoencoder":
        return
    names = {path.stem for path in held_out}
    clip = config.dynamics.model.context * config.dynamics.model.chunk
    data = LatentDataset.load([file for file in files if file.stem not in names], clip)
    try:
        check_data = LatentDataset.load([file for file in files if file.stem in names], clip)
    except UserError:
        if ranks.first:
            print("no held-out episode is as long as a clip: validating on the training episodes")
        check_data = data

    def run(stage: Stage, steps: int, known: nn.Module | None) -> bool:
        """Train ``stage``, from the network ``known`` on where there is one; returns whether to go on."""
        if known is not None and take_over(known, stage):
            inherited.add(stage.name)
            lost = next((name for name in known.state_dict() if name not in stage.network.state_dict()), None)
            if lost is not None and stage.name in config.keep:
                raise UserError(
                    f"keep={stage.name}: {config.begin} has {lost}, which would be lost: the configured net has no such"
                    f" part; give {stage.name}.model the shape that it was trained with"
                )
        elif stage.name in config.keep:
            raise UserError(f"keep={stage.name}: {config.begin} has no such net of the shape that is configured")
        if stage.name not in config.keep:
            done[stage.name] = run_stage(stage, loop(steps), out, ranks)
        return config.stop_after != stage.name

    begun_scene = None if begun is None else begun.scene

    def earlier(name: str) -> Any:
        """Return the net ``name`` of the scene that the run begins with, None where it has none."""
        net = None if begun_scene is None else getattr(begun_scene, name)
        if name in config.keep and net is None:
            raise UserError(f"keep={name}: {config.begin} has no such net; leave it out of keep to train one")
        return net

    depth = body = hand = None
    parts = [[file for file in files if (file.stem in names) == held] for held in (False, True)]
    if begun_scene is not None and {DepthStage.name, BodyStage.name} <= set(config.keep):
        depth, body = begun_scene.depth, begun_scene.body
    else:
        depths = [DepthData.load(part, config.data) for part in parts]
        if depths[0] is None:
            if ranks.first:
                print("the episodes have no poses with distances: a world without a memory of places")
        else:
            second = DepthStage(config.depth, depths[0], depths[1] or depths[0], autoencoder, **alike)
            if not run(second, config.depth.steps, None if begun_scene is None else begun_scene.depth):
                return
            depth = second.result()
            del second, depths
            # One episode will do where nothing is learned any more.
            walked = config.body.episodes if saved_step(BodyStage.name, out) < config.body.steps else 1
            moments = [
                survey(
                    part[:: -(-len(part) // walked)],
                    autoencoder,
                    depth,
                    chunk=config.body.model.chunk,
                    device=device,
                    quiet=not ranks.first,
                )  # fmt: skip
                for part in parts
            ]
            if moments[0] is None:
                raise UserError(f"the episodes in {config.data} have distances but are too short for the body net")
            third = BodyStage(config.body, moments[0], moments[1] or moments[0], **alike)
            if not run(third, config.body.steps, None if begun_scene is None else begun_scene.body):
                return
            body = third.result()
            del third, moments
    if depth is not None and body is not None:
        hand = earlier(HandStage.name)
        if HandStage.name not in config.keep and len(data.that_tell().spans):
            holding = HandStage(config.hand, data, check_data, **alike)
            if not run(holding, config.hand.steps, hand):
                return
            hand = holding.result()
            del holding
    deeds = earlier(DeedStage.name)
    if hand is not None and config.deeds.steps and DeedStage.name not in config.keep and tasks_of_deeds(data).any():
        paying = DeedStage(config.deeds, data, check_data, known=deeds, **alike)
        if not run(paying, config.deeds.steps, deeds):
            return
        deeds = paying.result()
        del paying
    goals = earlier(GoalStage.name)
    if body is not None and config.goals.steps and GoalStage.name not in config.keep and tasks_of_goals(data).any():
        going = GoalStage(config.goals, data, check_data, known=goals, **alike)
        if not run(going, config.goals.steps, goals):
            return
        goals = going.result()
        del going
    matter = earlier(MatterStage.name)
    if depth is not None and hand is not None and config.matter.steps and MatterStage.name not in config.keep:
        cells: list[Gathered | None] = [None, None]
        learned = saved_step(MatterStage.name, out) >= config.matter.steps
        if not learned:
            chosen = [part[:: -(-len(part) // config.matter.episodes)] for part in (training, held_out)]
            cells = [
                gather(part, depth, config.frame_size, np.random.default_rng(config.seed), device=device,
                       quiet=not ranks.first)
                for part in chosen
            ]  # fmt: skip
        if learned or cells[0] is not None:
            making = MatterStage(config.matter, cells[0], cells[1] or cells[0], **alike)
            if not run(making, config.matter.steps, matter):
                return
            matter = making.result()
            del making, cells
    completion = earlier(CompletionStage.name)
    if depth is not None and config.completion.steps and CompletionStage.name not in config.keep:
        boxes: list[Surveyed | None] = [None, None]
        learned = saved_step(CompletionStage.name, out) >= config.completion.steps
        if not learned:
            boxes = [
                look_through(part[:: -(-len(part) // config.completion.episodes)], depth, config.frame_size,
                             config.completion, np.random.default_rng(config.seed), device=device,
                             quiet=not ranks.first)
                for part in (training, held_out)
            ]  # fmt: skip
        if learned or boxes[0] is not None:
            completing = CompletionStage(config.completion, boxes[0], boxes[1] or boxes[0], **alike)
            if not run(completing, config.completion.steps, completion):
                return
            completion = completing.result()
            del completing, boxes
    whereabouts = earlier(WhereaboutsStage.name)
    if completion is not None and config.whereabouts.steps and WhereaboutsStage.name not in config.keep:
        learned = saved_step(WhereaboutsStage.name, out) >= config.whereabouts.steps
        mine = tasks_of_goals(data) if goals is None else goals.by_goals
        tasks = [TASKS[number] for number in mine.nonzero()[:, 0].tolist()]
        sought = (None, None) if learned or not tasks else search_both(
            (training, held_out), config.frame_size, episodes=config.whereabouts.episodes,
            pictures=config.whereabouts.pictures, tasks=tasks, seed=config.seed, quiet=not ranks.first,
        )  # fmt: skip
        if learned or sought[0] is not None:
            seeking = WhereaboutsStage(config.whereabouts, *sought, completion, **alike)
            if not run(seeking, config.whereabouts.steps, whereabouts):
                return
            whereabouts = seeking.result()
            del seeking, sought
    scene = None
    if depth is not None and body is not None:
        scene = Scene.of(depth, body, hand, dtype, matter, completion, deeds, goals, whereabouts)
    fourth = MotionStage(config.motion, data, check_data, autoencoder, scene, **alike)
    if not run(fourth, config.motion.steps, None if begun is None else begun.motion):
        return
    motion = fourth.result()
    del fourth
    last = DynamicsStage(config.dynamics, data, check_data, autoencoder, motion, scene, **alike)
    further = run(last, config.dynamics.steps, None if begun is None else begun.dit)
    dit, guesser = last.result(), last.guess
    del last
    if DynamicsStage.name in inherited:
        inherited |= {TouchStage.name, OutcomesStage.name}  # parts of that net
    learns = config.touch.steps and TouchStage.name not in config.keep and dit.touch is not None
    if further and learns and len(data.that_tell().deeds):
        idle = saved_step(TouchStage.name, out) >= config.touch.steps
        touch = TouchStage(config.touch, data, check_data, guesser, dit, idle=idle, **alike)
        further = run(touch, config.touch.steps, None)
        dit = touch.result()
        del touch
    bank = None if begun is None or BANK not in config.keep else begun.bank
    if scene is not None and config.bank.frames and BANK not in config.keep:
        for turn in (ranks.first, not ranks.first):  # the others read what the first has written
            if turn:
                bank = kept_bank(
                    config.bank, data, autoencoder, scene.depth, out / "bank.safetensors", seed=config.seed,
                    device=device, quiet=not ranks.first,
                )  # fmt: skip
            ranks.wait()
        guesser = Guesser(autoencoder, motion, scene, bank)
    if further and config.outcomes.steps and OutcomesStage.name not in config.keep:
        idle = saved_step(OutcomesStage.name, out) >= config.outcomes.steps
        heads = OutcomesStage(config.outcomes, data, check_data, guesser, dit, idle=idle, **alike)
        done[heads.name] = run_stage(heads, loop(config.outcomes.steps), out, ranks)
        dit = heads.result()
    if not ranks.first:
        return
    provenance = {
        "version": __version__,
        # The largest set any part of it learned from.
        "frames": max(len(data.latents), 0 if begun is None else begun.provenance.get("frames", 0)),
        "tasks": learned_tasks(data.task.unique().tolist(), None if begun is None else begun.provenance),
        **effort(done, {} if begun is None else begun.provenance, inherited),
        "bank_frames": 0 if bank is None else bank.config.frames,
        "machine": f"{platform.processor() or platform.machine()}, {machine(ranks)}, {dtype}",
        "date": time.strftime("%Y-%m-%d"),
    }
    path = out / "latentcraft.safetensors"
    save_checkpoint(path, WorldModel(autoencoder, motion, dit, config.frame_size, provenance, scene, bank))
    print(f"checkpoint: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def machine(ranks: Ranks) -> str:
    """Return how many threads train, and in how many processes."""
    several = f"{ranks.count} processes, " if ranks.count > 1 else ""
    return f"{several}{torch.get_num_threads()} threads"


def learned_tasks(numbers: list[int], before: dict[str, Any] | None) -> list[str]:
    """Return the names of the tasks that a run's heads have seen, those of the checkpoint it began with included."""
    earlier = [] if before is None else before.get("tasks", [])
    return [task for number, task in enumerate(TASKS) if number in numbers or task in earlier]


def effort(done: dict[str, Progress], before: dict[str, Any], inherited: set[str]) -> dict[str, int]:
    """Return the steps and seconds that went into each stage's network, those of the checkpoint it began with
    (``before``, its provenance) included where its weights were taken over.
    """
    totals = {}
    for name in STAGES:
        own = done.get(name, Progress())
        for key, value in (("steps", own.step), ("seconds", own.seconds)):
            earlier = before.get(f"{name}_{key}", 0) if name in inherited else 0
            if own.step or earlier:
                totals[f"{name}_{key}"] = round(value + earlier)
    return totals


def take_over(known: nn.Module, stage: Stage) -> bool:
    """Let ``stage`` begin with the weights of ``known``; what ``known`` has not got begins as it would alone, and what
    the stage has ``gathered`` from its own recordings, such as the looks of its blocks, stays.

    Returns:
        Whether the shapes are alike; if not, nothing is taken over.
    """
    values = known.state_dict()
    shared = [name for name in stage.optimizer.parameters if name in values]
    own: frozenset[str] = getattr(stage, "gathered", frozenset())
    for name in shared:
        parameter = stage.optimizer.parameters[name]
        if values[name].numel() != parameter.numel() or len(values[name]) != len(parameter):
            print(f"{stage.name}: {name} has another shape in the checkpoint; this stage begins anew")
            return False
    for name in shared:
        if name in stage.optimizer.masters:  # of the other processes' shards there are none here
            master = stage.optimizer.masters[name]
            master.copy_(values[name].reshape(master.shape))
            stage.optimizer.average[name].copy_(master)
    for network in (stage.network, stage.average):
        stage.optimizer.copy_average_to(network)
        for name, buffer in network.named_buffers():
            if name in values and name not in own and values[name].shape == buffer.shape:
                buffer.copy_(values[name])
    return True


def split(episodes: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Return training and held-out episodes, told apart by a hash of their names; at least one of each."""
    ranked = sorted(episodes, key=lambda path: zlib.crc32(path.stem.encode()))
    count = sum(zlib.crc32(path.stem.encode()) % 2**32 < share * 2**32 for path in ranked)
    count = min(max(count, 1), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def recorded(path: Path) -> dict[str, Any] | None:
    """Return the configuration a run was begun with, None for a new run.

    Raises:
        UserError: the file is torn or foreign.
    """
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text())
        assert {"autoencoder", "dynamics", "frame_size", "resolved_precision"} <= set(before)
    except (OSError, ValueError, AssertionError, TypeError) as error:
        raise UserError(f"{path} is not the configuration of a training run; choose another out=") from error
    return before


def precision(config: TrainConfig, device: str) -> torch.dtype:
    """Return the number format: the configured one, the one the run was begun with, or what this machine does best."""
    name = config.precision
    if name == "auto":
        before = recorded(config.out / "config.json")
        # A resumed run keeps its format: a busy machine must not turn the probe and with it the results.
        name = before["resolved_precision"] if before else name
    return {"bf16": torch.bfloat16, "fp32": torch.float32}.get(name) or fast_dtype(device)


def remember(config: TrainConfig, dtype: torch.dtype, path: Path) -> None:
    """Write the configuration beside the run; refuse to resume a run whose networks had another shape.

    Raises:
        UserError: ``path`` holds other shapes.
    """
    described = json.loads(json.dumps(asdict(config), default=str))
    described["resolved_precision"] = "bf16" if dtype == torch.bfloat16 else "fp32"
    before = recorded(path)
    if before:
        for stage in NETS:
            # What a run from before did not know of yet was as it is by default.
            usual = json.loads(json.dumps(asdict(type(getattr(config, stage).model)())))
            if usual | before.get(stage, {}).get("model", {}) != described[stage]["model"]:
                raise UserError(f"{path.parent} was begun with another {stage}.model; choose another out= or delete it")
        if before["frame_size"] != described["frame_size"]:
            raise UserError(f"{path.parent} was begun with frame_size {before['frame_size']}; choose another out=")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n")
