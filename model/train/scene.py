"""The nets of a world that is seen through a camera, one after the other; those that recordings do not teach are
absent.
"""

from typing import Any, NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.body import BodyNet
from latentcraft.model.completion import CompletionNet
from latentcraft.model.depth import DepthNet
from latentcraft.model.goals import GoalNet
from latentcraft.model.hand import HandNet
from latentcraft.model.scene import Scene
from latentcraft.model.tasks import TASKS
from latentcraft.model.train.body import BodyStage
from latentcraft.model.train.completion import CompletionStage, look_through
from latentcraft.model.train.course import Course, Episodes, some
from latentcraft.model.train.deeds import DeedStage, tasks_of_deeds
from latentcraft.model.train.depth import DepthData, DepthStage
from latentcraft.model.train.goal_search import search_both
from latentcraft.model.train.goals import GoalStage, tasks_of_goals
from latentcraft.model.train.hand import HandStage
from latentcraft.model.train.matter import MatterStage, gather
from latentcraft.model.train.survey import survey
from latentcraft.model.train.whereabouts import WhereaboutsStage


class Camera(NamedTuple):
    """The two nets without which there is no scene."""

    depth: DepthNet
    body: BodyNet


def train_scene(course: Course, episodes: Episodes, autoencoder: Autoencoder) -> Scene | None:
    """Train, or keep, the scene's nets; returns them, None where recordings tell of no camera.

    Raises:
        Stopped: after one of them.
        UserError: recordings or nets to keep do not fit.
    """
    camera = train_camera(course, episodes, autoencoder)
    hand = train_hand(course, episodes, camera)
    deeds = train_deeds(course, episodes, hand)
    goals = train_goals(course, episodes, camera)
    matter = train_matter(course, episodes, camera, hand)
    completion = train_completion(course, episodes, camera)
    whereabouts = train_whereabouts(course, episodes, completion, goals)
    if camera is None:
        return None
    return Scene.of(*camera, hand, course.dtype, matter, completion, deeds, goals, whereabouts)


def train_camera(course: Course, episodes: Episodes, autoencoder: Autoencoder) -> Camera | None:
    """Train how far away what is seen is, and how a body moves."""
    config, begun = course.config, None if course.begun is None else course.begun.scene
    if begun is not None and course.kept(DepthStage.name) and course.kept(BodyStage.name):
        return Camera(begun.depth, begun.body)
    depths = [DepthData.load(part, config.data) for part in episodes.files]
    if depths[0] is None:
        if not course.quiet:
            print("the episodes have no poses with distances: a world without a memory of places")
        return None
    stage = DepthStage(config.depth, depths[0], depths[1] or depths[0], autoencoder, **course.alike)
    depth = course.trained(stage, None if begun is None else begun.depth)
    del stage, depths
    # One episode will do where nothing is learned any more.
    walked = 1 if course.learned(BodyStage.name) else config.body.episodes
    moments = [
        survey(
            some(part, walked), autoencoder, depth, chunk=config.body.model.chunk, device=course.device,
            quiet=course.quiet,
        )
        for part in episodes.files
    ]  # fmt: skip
    if moments[0] is None:
        raise UserError(f"the episodes in {config.data} have distances but are too short for the body net")
    moving = BodyStage(config.body, moments[0], moments[1] or moments[0], **course.alike)
    return Camera(depth, course.trained(moving, None if begun is None else begun.body))


def train_hand(course: Course, episodes: Episodes, camera: Camera | None) -> HandNet | None:
    """Train what a hand changes, and where."""
    if camera is None:
        return None
    known: HandNet | None = course.earlier(HandStage.name)
    if course.kept(HandStage.name) or not len(episodes.data[0].that_tell().spans):
        return known
    stage = HandStage(course.config.hand, *episodes.data, **course.alike)
    net: HandNet = course.trained(stage, known)
    return net


def train_deeds(course: Course, episodes: Episodes, hand: HandNet | None) -> Any:
    """Train what deeds of a hand pay."""
    known = course.earlier(DeedStage.name)
    if hand is None or not course.learns(DeedStage.name) or not tasks_of_deeds(episodes.data[0]).any():
        return known
    return course.trained(DeedStage(course.config.deeds, *episodes.data, known=known, **course.alike), known)


def train_goals(course: Course, episodes: Episodes, camera: Camera | None) -> GoalNet | None:
    """Train what the way to a goal pays, by what is seen of it."""
    known: GoalNet | None = course.earlier(GoalStage.name)
    if camera is None or not course.learns(GoalStage.name) or not tasks_of_goals(episodes.data[0]).any():
        return known
    stage = GoalStage(course.config.goals, *episodes.data, known=known, **course.alike)
    net: GoalNet = course.trained(stage, known)
    return net


def train_matter(course: Course, episodes: Episodes, camera: Camera | None, hand: HandNet | None) -> Any:
    """Train what blocks are made of."""
    known, config = course.earlier(MatterStage.name), course.config
    if camera is None or hand is None or not course.learns(MatterStage.name):
        return known
    learned = course.learned(MatterStage.name)
    cells = [None, None] if learned else [
        gather(
            some(part, config.matter.episodes), camera.depth, config.frame_size, np.random.default_rng(config.seed),
            device=course.device, quiet=course.quiet,
        )
        for part in episodes.paths
    ]  # fmt: skip
    if not learned and cells[0] is None:
        return known
    return course.trained(MatterStage(config.matter, cells[0], cells[1] or cells[0], **course.alike), known)


def train_completion(course: Course, episodes: Episodes, camera: Camera | None) -> CompletionNet | None:
    """Train to complete a map of blocks."""
    known: CompletionNet | None = course.earlier(CompletionStage.name)
    config = course.config
    if camera is None or not course.learns(CompletionStage.name):
        return known
    learned = course.learned(CompletionStage.name)
    boxes = [None, None] if learned else [
        look_through(
            some(part, config.completion.episodes), camera.depth, config.frame_size, config.completion,
            np.random.default_rng(config.seed), device=course.device, quiet=course.quiet,
        )
        for part in episodes.paths
    ]  # fmt: skip
    if not learned and boxes[0] is None:
        return known
    stage = CompletionStage(config.completion, boxes[0], boxes[1] or boxes[0], **course.alike)
    net: CompletionNet = course.trained(stage, known)
    return net


def train_whereabouts(
    course: Course, episodes: Episodes, completion: CompletionNet | None, goals: GoalNet | None
) -> Any:
    """Train to tell where a goal is."""
    known, config = course.earlier(WhereaboutsStage.name), course.config
    if completion is None or not course.learns(WhereaboutsStage.name):
        return known
    learned = course.learned(WhereaboutsStage.name)
    mine = tasks_of_goals(episodes.data[0]) if goals is None else goals.by_goals
    tasks = [TASKS[number] for number in mine.nonzero()[:, 0].tolist()]
    sought = (None, None) if learned or not tasks else search_both(
        episodes.paths, config.frame_size, episodes=config.whereabouts.episodes, pictures=config.whereabouts.pictures,
        tasks=tasks, seed=config.seed, quiet=course.quiet,
    )  # fmt: skip
    if not learned and sought[0] is None:
        return known
    return course.trained(WhereaboutsStage(config.whereabouts, *sought, completion, **course.alike), known)
