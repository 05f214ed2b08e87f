"""The phases in their order, each going on from where an earlier run was: a table."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from training.captions import caption
from training.learning import keeping
from training.learning.chance import number
from training.learning.codec_phase import CodecLearner
from training.learning.course import Budget, Learner, Rhythm, clock_of, learn
from training.learning.earlier import inherit, inherited
from training.learning.encoder_phase import EncoderLearner
from training.learning.export import export, megabytes
from training.learning.flow_phase import FewStepLearner, FlowLearner
from training.learning.settings import Settings
from training.learning.shards import Shards
from training.learning.sheets import save_picture, sheet
from training.learning.words_phase import WordsLearner
from training.model.text import make_tokenizer
from training.painter.paint import paint
from training.scenes import draw_scene

MODEL = "model"
"""The folder of the finished model, in the run's folder."""
_CAPTIONS = 12000
_SHEET = 48


@dataclass
class Run:
    """One run: where it is kept, and what its phases hand on to each other."""

    settings: Settings
    folder: Path
    minutes: float
    steps: int | None = None
    """Instead of minutes: so many steps of each learning phase, so many shards."""
    earlier: Path | None = None
    """The folder of a run whose codec and weights this one begins with."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What each phase took, over all runs."""

    def budget(self, phase: str) -> Budget:
        """Return what a phase may take."""
        share = dict(self.settings.shares)[phase]
        return Budget(self.steps, self.minutes * 60 * share)

    def learn(self, phase: str, learner: Learner) -> float:
        """Run a phase of learning to its end. Returns its seconds."""
        clock = clock_of(self.settings.device)
        return learn(phase, learner, self.folder, self.budget(phase), self.rhythm, clock)

    @property
    def rhythm(self) -> Rhythm:
        return Rhythm(self.settings.checkpoint_s, self.settings.sheet_s)

    def tokenizer(self) -> Any:
        """Return the tokenizer that the first phase made."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)


def run(one: Run) -> Path:
    """Run all phases, or what is left of them. Returns the folder of the model."""
    _settle(one)
    for phase in PHASES.values():
        phase(one)
    return one.folder / MODEL


def _settle(one: Run) -> None:
    """Write the settings down. Raises ValueError in the folder of a run with other ones."""
    recipe = one.folder / "settings.json"
    told = keeping.plain(one.settings)
    if recipe.is_file() and keeping.load_json(recipe) != told:
        raise ValueError(
            f"{one.folder} holds a run with other settings: give another --output, or remove it."
        )
    if one.earlier is not None:
        inherit(one.settings, one.earlier, one.folder)
    keeping.save_json(recipe, told)


def _paint(one: Run) -> None:
    """The tokenizer from captions of training scenes, and a sheet of the painter's pictures."""
    if (one.folder / "tokenizer" / "tokenizer_config.json").is_file():
        return
    rng = random.Random(number(one.settings.seed, "captions"))
    said = (caption(draw_scene(rng), rng) for _ in range(_CAPTIONS))
    tokenizer = make_tokenizer(said, one.settings.sizes)
    tokenizer.save_pretrained(one.folder / "tokenizer")
    scenes = [draw_scene(rng) for _ in range(_SHEET)]
    save_picture(one.folder / "sheets" / "painter.png", sheet(paint(scenes, 192, 192), 8))


def _codec(one: Run) -> None:
    learner = CodecLearner(one.settings)
    one.seconds["codec"] = one.learn("codec", learner)
    _judge(one, "codec", learner)


def _encoder(one: Run) -> None:
    learner = EncoderLearner(one.settings, _finished_codec(one))
    one.seconds["encoder"] = one.learn("encoder", learner)
    _judge(one, "encoder", learner)


def _judge(one: Run, phase: str, learner: CodecLearner | EncoderLearner) -> None:
    """Write down, once, how true the pictures are that come back."""
    told = one.folder / f"{phase}.json"
    if not told.is_file():
        keeping.save_json(told, learner.fidelity(2 if one.steps else 48))


def _latents(one: Run) -> None:
    """Paint and encode what the transformer learns from, unless it is to be ever fresh."""
    told = one.folder / "latents.json"
    if one.settings.shards.fresh_every:
        return
    if not told.is_file():
        keeping.save_json(told, _painted(one))
    one.seconds["latents"] = float(keeping.load_json(told)["seconds"])


def _painted(one: Run) -> dict[str, float]:
    clock, budget, made = clock_of(one.settings.device), one.budget("latents"), 0
    began = clock()
    for made in _shards(one).fill():
        if budget.part(made, clock() - began) >= 1:
            break
        if made % 10 == 0:
            print(f"latents   {made} shards", flush=True)
    return {"shards": made, "seconds": round(clock() - began, 1)}


def _shards(one: Run) -> Shards:
    learner = _finished_codec(one)
    return Shards(one.settings, one.folder, one.tokenizer(), learner.encoder.eval())


def _finished_codec(one: Run) -> CodecLearner:
    learner = CodecLearner(one.settings)
    learner.restore(
        keeping.load(one.folder / "codec.checkpoint", one.settings.device)["learner"]
    )
    return learner


def _ready(one: Run) -> int | None:
    told = one.folder / "latents.json"
    return int(keeping.load_json(told)["shards"]) if told.is_file() else None


def _words(one: Run) -> None:
    learner = WordsLearner(one.settings, one.tokenizer())
    earlier = inherited(one.folder, one.settings.device)
    if earlier is not None:
        learner.begin_from(earlier["weights"])
    one.seconds["words"] = one.learn("words", learner)


def _flow(one: Run) -> None:
    codec = _finished_codec(one)
    shards = Shards(one.settings, one.folder, one.tokenizer(), codec.encoder.eval())
    learner = FlowLearner(one.settings, shards, one.tokenizer(), _ready(one))
    learner.decoder = codec.codec.decoder
    words = keeping.load(one.folder / "words.checkpoint", one.settings.device)
    learner.begin_from(words["learner"])
    one.seconds["flow"] = one.learn("flow", learner)


def _few_step(one: Run) -> None:
    codec = _finished_codec(one)
    shards = Shards(one.settings, one.folder, one.tokenizer(), codec.encoder.eval())
    learner = FewStepLearner(one.settings, shards, one.tokenizer(), _ready(one))
    learner.decoder = codec.codec.decoder
    flow = keeping.load(one.folder / "flow.checkpoint", one.settings.device)
    learner.begin_from(flow["learner"])
    one.seconds["few-step"] = one.learn("few-step", learner)


def _export(one: Run) -> None:
    """Write the model with the few-step phase's averaged weights."""
    codec = _finished_codec(one)
    stock = keeping.load(one.folder / "encoder.checkpoint", one.settings.device)
    EncoderLearner(one.settings, codec).restore(stock["learner"])
    tokenizer = one.tokenizer()
    shards = Shards(one.settings, one.folder, tokenizer, codec.encoder)
    learner = FewStepLearner(one.settings, shards, tokenizer, None)
    kept = keeping.load(one.folder / "few-step.checkpoint", one.settings.device)
    learner.restore(kept["learner"])
    drawer = learner.average
    parts = {
        "codec": codec.codec,
        "encoder": drawer.encoder,
        "tokenizer": tokenizer,
        "transformer": drawer.transformer,
    }
    export(parts, one.folder / MODEL)
    earlier = inherited(one.folder) or {}
    told = {
        "settings": asdict(one.settings),
        "minutes": one.minutes,
        "seconds": {name: round(value, 1) for name, value in one.seconds.items()},
        "steps": {
            name: keeping.load(one.folder / f"{name}.checkpoint")["steps"]
            for name in ("codec", "encoder", "words", "flow", "few-step")
        },
        "begun_from": {key: earlier[key] for key in ("steps", "seconds") if earlier},
        "codec_dB": keeping.load_json(one.folder / "codec.json"),
        "stock_encoder_dB": keeping.load_json(one.folder / "encoder.json"),
        "torch": str(torch.__version__),
        "device": _device_name(one.settings.device),
    }
    keeping.save_json(one.folder / MODEL / "training.json", told)
    print(f"model: {one.folder / MODEL}, {megabytes(one.folder / MODEL):.1f} MB", flush=True)


def _device_name(device: str) -> str:
    return (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{torch.get_num_threads()} threads"
    )


PHASES: dict[str, Callable[[Run], None]] = {
    "paint": _paint,
    "codec": _codec,
    "encoder": _encoder,
    "latents": _latents,
    "words": _words,
    "flow": _flow,
    "few-step": _few_step,
    "export": _export,
}
