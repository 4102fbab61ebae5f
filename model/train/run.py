"""``latentcraft train``: autoencoder, encode, depth, body, hand, deeds, goals, matter, completion, whereabouts, motion,
dynamics, touch, outcomes; all resume.

``torchrun --nproc-per-node=N -m latentcraft train ...`` trains with N processes (:mod:`latentcraft.model.train.ranks`).
"""

from pathlib import Path

import torch

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.bank import Bank
from latentcraft.model.checkpoint import WorldModel, load_checkpoint, save_checkpoint
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.episodes import list_episodes
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import LatentDataset
from latentcraft.model.motion import Motion
from latentcraft.model.scene import Scene
from latentcraft.model.train.autoencoder import AutoencoderStage, load_frames
from latentcraft.model.train.bank import kept_bank
from latentcraft.model.train.config import BANK, STAGES, TrainConfig
from latentcraft.model.train.course import Course, Episodes, Stopped, some
from latentcraft.model.train.dynamics import DynamicsStage
from latentcraft.model.train.encode import encode_episodes
from latentcraft.model.train.held_out import split
from latentcraft.model.train.loop import Interrupted, saved_step
from latentcraft.model.train.motion import MotionStage
from latentcraft.model.train.outcomes import OutcomesStage
from latentcraft.model.train.provenance import machine, provenance_of
from latentcraft.model.train.ranks import Ranks
from latentcraft.model.train.remembered import precision, remember
from latentcraft.model.train.scene import train_scene
from latentcraft.model.train.take_over import take_over
from latentcraft.model.train.touch import TouchStage

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
    paths = list_episodes(config.data)
    if len(paths) < 2:
        raise UserError(f"{config.data} holds {len(paths)} episodes and training needs at least 2; record more")
    parts = split(paths, config.held_out)
    if ranks.first:
        remember(config, dtype, config.out / "config.json")
        print(f"{len(parts[0])} + {len(parts[1])} episodes, {dtype}, {machine(ranks)}, {device} -> {config.out}")
    ranks.wait()  # the others must not read the directory half made
    begun = None if config.begin is None else load_checkpoint(config.begin, dtype=dtype, device=device)
    if begun is not None and begun.bank is None and BANK in config.keep:
        raise UserError(f"keep=bank: {config.begin} has no bank; leave it out of keep to choose one")
    course = Course(config, ranks, dtype, device, begun, inherited=set(config.keep))
    try:
        autoencoder = train_autoencoder(course, parts)
        episodes = encode(course, parts, autoencoder)
        scene = train_scene(course, episodes, autoencoder)
        motion_stage = MotionStage(config.motion, *episodes.data, autoencoder, scene, **course.alike)
        motion = course.trained(motion_stage, None if begun is None else begun.motion)
        del motion_stage
    except Stopped:
        return
    dit, bank = train_dynamics(course, episodes, autoencoder, motion, scene)
    if ranks.first:
        before = {} if begun is None else begun.provenance
        story = provenance_of(episodes.data[0], before, course.done, course.inherited, bank, dtype, ranks)
        path = config.out / "latentcraft.safetensors"
        save_checkpoint(path, WorldModel(autoencoder, motion, dit, config.frame_size, story, scene, bank))
        print(f"checkpoint: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def train_autoencoder(course: Course, paths: tuple[list[Path], list[Path]]) -> Autoencoder:
    """Train, or keep, the autoencoder."""
    config, begun = course.config, course.begun
    if begun is not None and course.kept(AutoencoderStage.name):
        channels = begun.autoencoder.config.channels
        if channels != config.dynamics.model.channels:
            raise UserError(f"{config.begin} has {channels} latent channels; set dynamics.model.channels={channels}")
        return begun.autoencoder
    frames = check = torch.empty(0, *config.frame_size, 3, dtype=torch.uint8)
    if saved_step(AutoencoderStage.name, config.out) < config.autoencoder.steps:  # else reading videos is for nothing
        frames = load_frames(paths[0], config.autoencoder.max_frames, config.frame_size)
        check = load_frames(paths[1] + paths[0][:1], 2048, config.frame_size)
    stage = AutoencoderStage(config.autoencoder, frames, check, **course.alike)
    if begun is not None and take_over(begun.autoencoder, stage):
        course.inherited.add(stage.name)
    course.train(stage)
    return stage.result()


def encode(course: Course, paths: tuple[list[Path], list[Path]], autoencoder: Autoencoder) -> Episodes:
    """Encode all episodes that are needed, and read them.

    Raises:
        Stopped: after the autoencoder, which includes this.
        UserError: none is as long as a clip.
    """
    config = course.config
    needed = paths if config.learns_from_latents else (some(paths[0], FEW), some(paths[1], FEW))
    files = encode_episodes(
        autoencoder, sorted([*needed[0], *needed[1]]), config.out / "latents", config.frame_size, device=course.device,
        ranks=course.ranks,
    )  # fmt: skip
    course.check_stop(AutoencoderStage.name)
    held_out = {path.stem for path in paths[1]}
    parts = [file for file in files if file.stem not in held_out], [file for file in files if file.stem in held_out]
    clip = config.dynamics.model.context * config.dynamics.model.chunk
    data = LatentDataset.load(parts[0], clip)
    try:
        check = LatentDataset.load(parts[1], clip)
    except UserError:
        if course.ranks.first:
            print("no held-out episode is as long as a clip: validating on the training episodes")
        check = data
    return Episodes(paths, parts, (data, check))


def train_dynamics(
    course: Course, episodes: Episodes, autoencoder: Autoencoder, motion: Motion, scene: Scene | None
) -> tuple[SpacetimeDiT, Bank | None]:  # fmt: skip
    """Train, or keep, the transformer, then what it adds where a hand was at work; choose recorded places; then train
    its heads. Returns it, and the places.
    """
    config, begun = course.config, course.begun
    stage = DynamicsStage(config.dynamics, *episodes.data, autoencoder, motion, scene, **course.alike)
    course.train_from(stage, None if begun is None else begun.dit)
    dit, guesser = stage.result(), stage.guess
    del stage
    if DynamicsStage.name in course.inherited:
        course.inherited |= {TouchStage.name, OutcomesStage.name}  # parts of that net
    further = config.stop_after != DynamicsStage.name
    if further and course.learns(TouchStage.name) and dit.touch is not None and len(episodes.data[0].that_tell().deeds):
        idle = course.learned(TouchStage.name)
        touch = TouchStage(config.touch, *episodes.data, guesser, dit, idle=idle, **course.alike)
        course.train_from(touch, None)
        dit, further = touch.result(), config.stop_after != TouchStage.name
        del touch
    bank = choose_places(course, episodes, autoencoder, scene)
    if scene is not None and config.bank.frames and not course.kept(BANK):
        guesser = Guesser(autoencoder, motion, scene, bank)
    if further and course.learns(OutcomesStage.name):
        idle = course.learned(OutcomesStage.name)
        heads = OutcomesStage(config.outcomes, *episodes.data, guesser, dit, idle=idle, **course.alike)
        course.train(heads)
        dit = heads.result()
    return dit, bank


def choose_places(course: Course, episodes: Episodes, autoencoder: Autoencoder, scene: Scene | None) -> Bank | None:
    """Return the bank of recorded places that the checkpoint carries; None for none."""
    config, ranks = course.config, course.ranks
    bank = None if course.begun is None or not course.kept(BANK) else course.begun.bank
    if scene is not None and config.bank.frames and not course.kept(BANK):
        for turn in (ranks.first, not ranks.first):  # the others read what the first has written
            if turn:
                bank = kept_bank(
                    config.bank, episodes.data[0], autoencoder, scene.depth, config.out / "bank.safetensors",
                    seed=config.seed, device=course.device, quiet=course.quiet,
                )  # fmt: skip
            ranks.wait()
    return bank
