"""Everything that one run is given: sizes, canvases, rates and how its minutes are shared out."""

from dataclasses import dataclass, field

from training.model.sizes import LARGE, SMALL, TINY, Sizes

SHIFT = 3.0
"""Of the noise schedule drawn with: more of the steps where the picture's layout is settled."""
LATE_SHIFT = 2.0
"""Of the one learnt with, at the end of the flow."""
FORWARDS = 8
"""What the service asks of the model."""


@dataclass(frozen=True)
class Canvas:
    """A picture size to learn on, and its part of the batches at the beginning and at the end."""

    width: int
    height: int
    early: float
    late: float
    apart: tuple[int, ...] = (1,)
    """How far apart the rotary places of its tokens are, one of these by lot.

    Two apart, it teaches the layout of a canvas twice as wide and high, for a quarter of the cost.
    """

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def weight(self, part: float) -> float:
        """Return its weight when `part` (0..1) of the phase is over."""
        return self.early + (self.late - self.early) * part


_LARGE = (
    Canvas(768, 768, 0.0, 0.05),
    Canvas(1024, 1024, 0.0, 0.08),
    Canvas(1280, 736, 0.0, 0.07),
    Canvas(736, 1280, 0.0, 0.05),
    Canvas(1024, 768, 0.0, 0.05),
    Canvas(768, 1024, 0.0, 0.05),
)


@dataclass(frozen=True)
class CodecSettings:
    """Of the picture codec's phase."""

    batch: int = 8
    crop: int = 128
    late_crop: int = 256
    rate: float = 1.5e-3
    noise: float = 0.06
    """Added to latents, so that the decoder forgives what the transformer gets wrong."""


@dataclass(frozen=True)
class FlowSettings:
    """Of the transformer's two phases."""

    tokens: int = 4096
    """Picture tokens in a batch: the number of pictures follows from their size."""
    matrix_rate: float = 4e-3
    other_rate: float = 2e-3
    few_rate: float = 0.15
    """Of the few-step phase, in parts of the rates above."""
    guidance: float = 1.5
    """What the teacher of the few-step phase exaggerates the caption by; 1 for not at all."""
    contrast: float = 0.0
    """What the teacher leads away by from the same caption with its shapes called otherwise."""
    teacher_steps: int = 4
    """Small steps of the teacher for one of the pupil."""
    dropout: float = 0.08
    """The part of captions left out, so that there is a picture of no caption to lead away from."""
    early_shift: float = 8.0
    """Of the schedule learnt with, at the beginning of the flow."""
    lesson: float = 0.1
    """What it weighs to tell the scene's record, at the beginning of the flow."""
    captions: int = 64
    """In a batch of the words' phase."""
    words_rate: float = 2.5
    """Of the words' phase, in parts of the rates above."""


@dataclass(frozen=True)
class ShardSettings:
    """Of the latents that the transformer learns from."""

    pixels: int = 64 * 256 * 256
    """In a shard: the number of scenes follows from their size."""
    window: int = 4000
    """Shards of all canvases in use at a time, at most."""
    fresh_every: int = 0
    """Steps after which a new shard replaces the oldest one; 0: painted once, kept on disk."""
    captions: int = 4
    """Ways to say each scene."""
    stills: float = 4.0
    """How many times likelier a still life is to be learnt from than another scene."""


@dataclass(frozen=True)
class Settings:
    """One run."""

    device: str
    sizes: Sizes
    seed: int = 7
    canvases: tuple[Canvas, ...] = (
        Canvas(256, 256, 0.95, 0.30),
        Canvas(512, 512, 0.05, 0.35),
        *_LARGE,
    )
    codec: CodecSettings = field(default_factory=CodecSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)
    shares: tuple[tuple[str, float], ...] = (
        ("codec", 0.22),
        ("encoder", 0.03),
        ("latents", 0.18),
        ("words", 0.03),
        ("flow", 0.48),
        ("few-step", 0.06),
    )
    """What part of the minutes each phase has."""
    checkpoint_s: float = 120.0
    sheet_s: float = 900.0


CPU = Settings(
    "cpu",
    SMALL,
    canvases=(
        Canvas(256, 256, 0.8, 0.15, apart=(1, 2, 2, 2, 3, 4)),
        Canvas(512, 512, 0.1, 0.5, apart=(1, 1, 1, 2)),
        *_LARGE,
        Canvas(320, 192, 0.05, 0.0, apart=(4,)),
        Canvas(192, 320, 0.05, 0.0, apart=(4,)),
    ),
    flow=FlowSettings(tokens=1536, guidance=2.0, contrast=1.5, teacher_steps=1),
    shares=(
        ("codec", 0.22),
        ("encoder", 0.03),
        ("latents", 0.14),
        ("words", 0.03),
        ("flow", 0.49),
        ("few-step", 0.09),
    ),
)
"""For hours on a few cores: cheap canvases first, latents painted once and kept on disk."""
CUDA = Settings(
    "cuda",
    LARGE,
    canvases=(Canvas(256, 256, 0.3, 0.0), Canvas(512, 512, 0.7, 0.57), *_LARGE),
    codec=CodecSettings(batch=32, crop=256, late_crop=512, rate=1.5e-3),
    flow=FlowSettings(tokens=131072, matrix_rate=5e-3, other_rate=2e-3),
    shards=ShardSettings(pixels=64 * 512 * 512, window=1500, fresh_every=1),
    shares=(
        ("codec", 0.22),
        ("encoder", 0.03),
        ("latents", 0.0),
        ("words", 0.02),
        ("flow", 0.58),
        ("few-step", 0.15),
    ),
    checkpoint_s=60.0,
    sheet_s=240.0,
)
"""For minutes on a large card: every step sees newly painted scenes."""
PROOF = Settings(
    "cpu",
    TINY,
    canvases=(Canvas(64, 64, 0.5, 0.5), Canvas(96, 64, 0.5, 0.5)),
    codec=CodecSettings(batch=2, crop=32, late_crop=64),
    flow=FlowSettings(tokens=32, contrast=1.0, teacher_steps=2),
    shards=ShardSettings(pixels=8 * 64 * 64, window=4),
    checkpoint_s=0.0,
    sheet_s=1e9,
)
"""For tests of the machinery: a checkpoint after every step."""

NAMED = {"cpu": CPU, "cuda": CUDA, "proof": PROOF}
