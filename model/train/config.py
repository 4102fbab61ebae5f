"""What a training run is: the keys of ``latentcraft train``, and its stages in their order."""

from dataclasses import dataclass, field
from pathlib import Path

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.sampler import STEPS
from latentcraft.model.train.autoencoder import AutoencoderStageConfig
from latentcraft.model.train.bank import BankStageConfig
from latentcraft.model.train.body import BodyStageConfig
from latentcraft.model.train.completion import CompletionStageConfig
from latentcraft.model.train.deeds import DeedStageConfig
from latentcraft.model.train.depth import DepthStageConfig
from latentcraft.model.train.dynamics import DynamicsStageConfig
from latentcraft.model.train.goals import GoalStageConfig
from latentcraft.model.train.hand import HandStageConfig
from latentcraft.model.train.matter import MatterStageConfig
from latentcraft.model.train.motion import MotionStageConfig
from latentcraft.model.train.outcomes import OutcomesStageConfig
from latentcraft.model.train.touch import TouchStageConfig
from latentcraft.model.train.whereabouts import WhereaboutsStageConfig

NETS = (
    "autoencoder", "depth", "body", "hand", "deeds", "goals", "matter", "completion", "whereabouts", "motion",
    "dynamics",
)  # fmt: skip
"""Stages that have a net of their own."""
STAGES = (*NETS, "touch", "outcomes")
BANK = "bank"
"""What can be kept besides stages."""
ON_LATENTS = tuple(stage for stage in STAGES if stage not in ("matter", "completion", "whereabouts"))
"""Stages that learn from encoded episodes; the others read the videos."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run, from episodes to a checkpoint."""

    data: Path
    """Directory of recorded episodes (``latentcraft record``)."""
    out: Path
    """Directory of the run: training states, logs, samples, encoded episodes and ``latentcraft.safetensors``."""
    frame_size: tuple[int, int] = (96, 160)
    """(H, W) that episodes are resized to, multiples of 16."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    held_out: float = 0.02
    """Share of episodes kept for validation, chosen by a hash of the name: recording more never moves one across."""
    threads: int | None = None
    """CPU threads of each process; None takes all cores; ``torchrun`` gives each process one unless told."""
    precision: str = "auto"
    """``auto`` probes the machine; ``bf16`` or ``fp32`` force the format of weights and activations."""
    accelerator: str = "auto"
    """Lightning Fabric's accelerator: ``auto``, ``cpu`` or ``cuda``."""
    shard: bool = False
    """Several processes: each keeps its share of the training state only (:mod:`latentcraft.model.shards`). More is
    sent to and fro, and 17 of a parameter's 23 bytes are shared out."""
    save_seconds: float = 180.0
    """Wall-clock time between saves of the training state."""
    sample_every: int = 500
    """Steps between validation and sample images."""
    max_seconds: float | None = None
    """Wall-clock limit of each stage in this run; it saves and stops, the same command goes on. None: no limit."""
    begin: Path | None = None
    """A checkpoint whose networks the stages begin with; null begins with random ones."""
    keep: tuple[str, ...] = ()
    """Stages that are taken from ``begin`` as they are and not trained."""
    stop_after: str | None = None
    """The stage after which to stop (``autoencoder`` includes encoding); None goes to the end."""
    autoencoder: AutoencoderStageConfig = field(default_factory=AutoencoderStageConfig)
    """Stage 1."""
    depth: DepthStageConfig = field(default_factory=DepthStageConfig)
    """Stage 3, where episodes have poses and distances."""
    body: BodyStageConfig = field(default_factory=BodyStageConfig)
    """Stage 4, likewise."""
    hand: HandStageConfig = field(default_factory=HandStageConfig)
    """Stage 5, where episodes tell what the hand did, too."""
    deeds: DeedStageConfig = field(default_factory=DeedStageConfig)
    """Stage 6, where some task pays for what the hand did and for nothing else."""
    goals: GoalStageConfig = field(default_factory=GoalStageConfig)
    """Stage 7, where some task pays for the way to somewhere, or for getting there, and for nothing else."""
    matter: MatterStageConfig = field(default_factory=MatterStageConfig)
    """Stage 8, where episodes tell what the hand did and where that was."""
    completion: CompletionStageConfig = field(default_factory=CompletionStageConfig)
    """Stage 9, where episodes have poses and tell of blocks."""
    whereabouts: WhereaboutsStageConfig = field(default_factory=WhereaboutsStageConfig)
    """Stage 10, where they do and some task pays for the way to somewhere, as for stage 7."""
    motion: MotionStageConfig = field(default_factory=MotionStageConfig)
    """Stage 11."""
    dynamics: DynamicsStageConfig = field(default_factory=DynamicsStageConfig)
    """Stage 12."""
    touch: TouchStageConfig = field(default_factory=TouchStageConfig)
    """Stage 13, where episodes tell what the hand did."""
    bank: BankStageConfig = field(default_factory=BankStageConfig)
    """Chosen after stage 13, where episodes have poses with distances."""
    outcomes: OutcomesStageConfig = field(default_factory=OutcomesStageConfig)
    """Stage 14."""

    @property
    def learns_from_latents(self) -> bool:
        """Whether any stage does that is to be trained, so that all episodes have to be encoded."""
        trained = (name for name in ON_LATENTS if name not in self.keep)
        return BANK not in self.keep and self.bank.frames > 0 or any(getattr(self, name).steps for name in trained)

    def __post_init__(self) -> None:
        multiple = DOWNSAMPLING * self.dynamics.model.patch
        if any(side % multiple or side <= 0 for side in self.frame_size):
            raise UserError(f"frame_size {list(self.frame_size)} must be positive multiples of {multiple}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UserError(f"precision must be auto, bf16 or fp32, got {self.precision!r}")
        for name, ours in (
            ("autoencoder.model.channels", self.autoencoder.model.channels),
            ("body.model.channels", self.body.model.channels),
            ("hand.model.channels", self.hand.model.channels),
            ("deeds.model.channels", self.deeds.model.channels),
            ("goals.model.channels", self.goals.model.channels),
            ("motion.model.channels", self.motion.model.channels),
        ):
            if ours != self.dynamics.model.channels:
                raise UserError(
                    f"{name} is {ours} and dynamics.model.channels {self.dynamics.model.channels}; they are the same "
                    "latent, make them equal"
                )
        if self.whereabouts.model.field_of_view != self.depth.model.field_of_view:
            raise UserError("whereabouts.model.field_of_view must be depth.model.field_of_view: it is the same camera")
        for name, ours in (
            ("body", self.body.model.chunk), ("hand", self.hand.model.chunk), ("motion", self.motion.model.chunk)
        ):  # fmt: skip
            if ours != self.dynamics.model.chunk:
                raise UserError(
                    f"{name}.model.chunk is {ours} and dynamics.model.chunk {self.dynamics.model.chunk}; they are the "
                    "same chunk, make them equal"
                )
        for name, chunks in (("hand", self.hand.chunks), ("motion", self.motion.chunks)):
            if chunks < 2:
                raise UserError(f"{name}.chunks must be at least 2, got {chunks}")
        if self.dynamics.sample_steps not in STEPS:
            raise UserError(f"dynamics.sample_steps must be one of {', '.join(map(str, STEPS))}")
        for name, value in (
            ("threads", self.threads or 1), ("sample_every", self.sample_every),
            ("autoencoder.steps", self.autoencoder.steps), ("autoencoder.batch", self.autoencoder.batch),
            ("autoencoder.max_frames", self.autoencoder.max_frames), ("dynamics.steps", self.dynamics.steps),
            ("depth.steps", self.depth.steps), ("depth.batch", self.depth.batch),
            ("depth.optimizer.warmup", self.depth.optimizer.warmup),
            ("body.steps", self.body.steps), ("body.batch", self.body.batch), ("body.chunks", self.body.chunks),
            ("body.optimizer.warmup", self.body.optimizer.warmup),
            ("hand.steps", self.hand.steps), ("hand.batch", self.hand.batch),
            ("hand.optimizer.warmup", self.hand.optimizer.warmup),
            ("deeds.batch", self.deeds.batch), ("deeds.optimizer.warmup", self.deeds.optimizer.warmup),
            ("goals.batch", self.goals.batch), ("goals.optimizer.warmup", self.goals.optimizer.warmup),
            ("matter.batch", self.matter.batch), ("matter.episodes", self.matter.episodes),
            ("matter.optimizer.warmup", self.matter.optimizer.warmup),
            ("completion.batch", self.completion.batch), ("completion.boxes", self.completion.boxes),
            ("completion.episodes", self.completion.episodes), ("completion.pictures", self.completion.pictures),
            ("completion.optimizer.warmup", self.completion.optimizer.warmup),
            ("whereabouts.batch", self.whereabouts.batch), ("whereabouts.episodes", self.whereabouts.episodes),
            ("whereabouts.pictures", self.whereabouts.pictures),
            ("whereabouts.optimizer.warmup", self.whereabouts.optimizer.warmup),
            ("motion.steps", self.motion.steps), ("motion.batch", self.motion.batch),
            ("dynamics.batch", self.dynamics.batch), ("touch.batch", self.touch.batch),
            ("touch.moments", self.touch.moments), ("touch.optimizer.warmup", self.touch.optimizer.warmup),
            ("outcomes.batch", self.outcomes.batch),
            ("dynamics.bootstrap_stage", self.dynamics.bootstrap_stage), ("dynamics.copies", self.dynamics.copies),
            ("autoencoder.optimizer.warmup", self.autoencoder.optimizer.warmup),
            ("motion.optimizer.warmup", self.motion.optimizer.warmup),
            ("dynamics.optimizer.warmup", self.dynamics.optimizer.warmup),
        ):  # fmt: skip
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.held_out < 1:
            raise UserError(f"held_out must be from 0 to below 1, got {self.held_out}")
        for name in self.keep:
            if name not in (*STAGES, BANK):
                raise UserError(f"keep={name} is no stage; choose from {', '.join((*STAGES, BANK))}")
            if self.begin is None:
                raise UserError(f"keep={name} needs the checkpoint it is taken from: begin=FILE.safetensors")
        if self.stop_after not in (None, *STAGES):
            raise UserError(f"stop_after must be one of {', '.join(STAGES)} or null, got {self.stop_after!r}")
