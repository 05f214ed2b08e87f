"""The diffusion pipeline: diffusers' ZImagePipeline in timed stages, on ROCm, CUDA or a CPU."""

import contextlib
import operator
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import diffusers
import torch
import transformers
from diffusers import ZImagePipeline

from consumer.gpu.accelerator import described
from consumer.gpu.device import (
    backend,
    component_bytes,
    device_named,
    memory_of,
    name_of,
    placement,
    vae_attention,
)
from consumer.gpu.model import fetch, pipeline_class
from consumer.gpu.pipeline import (
    DeviceLostError,
    Drawn,
    LoadError,
    NanOutputError,
    OnStep,
    OutOfMemoryError,
    PromptTooLongError,
)
from consumer.gpu.protocol import Generate, Load, Ready
from consumer.gpu.selftest import Parts, self_test

MAX_TOKENS = 512
"""Of the templated prompt: what the text encoder reads (diffusers' default, and the model's)."""

TILE_SIZES = {"tile_sample_min_size": 512, "tile_latent_min_size": 64}
"""Of the decoder, in pixels and in latents: an attribute of diffusers' AutoencoderKL each."""


class DiffusionPipeline:
    """One diffusers pipeline on one device. Never entered by two threads."""

    def __init__(self) -> None:
        self._pipe: Any = None
        self._device = torch.device("cpu")
        self._offloaded = False
        self._forwards = 0
        self._step = 1
        """Pixels: the model draws sides that are multiples of it; others are cropped."""

    # ------------------------------------------------------------ load

    def load(self, command: Load, note: Callable[[str], None]) -> Ready:
        """Load the model onto the device. Raises LoadError."""
        started = time.monotonic()
        self._device = device_named(command.device)
        # Searching kernels per shape costs minutes at every new size on ROCm.
        torch.backends.cudnn.benchmark = False
        folder, revision = fetch(command, note)
        name, found = pipeline_class(folder)
        note(f"loading {name} from {folder}")
        # Their bars would fill the log; the parent hears of the load in sentences.
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        dtype = torch.float32 if self._device.type == "cpu" else torch.bfloat16
        try:
            self._adopt(
                found.from_pretrained(folder, dtype=dtype, local_files_only=True),
                command.memory,
            )
            self._prove(note)
        except torch.OutOfMemoryError as error:
            raise LoadError(
                f"The model does not fit on {self._device}: {error}. Set IMAGE_GEN_MEMORY=low.",
                permanent=True,
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise LoadError(
                f"{folder} cannot be loaded: {error}. Are all its files there?", permanent=True
            ) from error
        return self._ready(command, revision, time.monotonic() - started)

    def _adopt(self, pipe: Any, memory: str) -> None:
        """Take over a pipeline that stands in main memory: place it and count its forwards."""
        pipe.set_progress_bar_config(disable=True)
        self._pipe = pipe
        self._place(memory)
        denoiser = getattr(pipe, "transformer", None) or pipe.unet
        denoiser.register_forward_hook(self._count_forward)
        scale = getattr(pipe, "vae_scale_factor", 8)
        self._step = scale * 2 if isinstance(pipe, ZImagePipeline) else scale

    def _place(self, memory: str) -> None:
        if self._device.type == "cpu":
            return
        if memory == "auto":
            free, _ = torch.cuda.mem_get_info(self._device)
            memory = placement(component_bytes(self._pipe), free)
        match memory:
            case "fast":
                self._pipe.to(self._device)
            case "balanced":
                self._pipe.enable_model_cpu_offload(device=self._device)
            case _:
                self._pipe.enable_sequential_cpu_offload(device=self._device)
        self._offloaded = memory != "fast"

    def _prove(self, note: Callable[[str], None]) -> None:
        """Have the device prove its arithmetic. Raises LoadError."""
        device, vae = self._device, getattr(self._pipe, "vae", None)
        try:
            self_test(Parts(vae, device, self._pipe.dtype, lambda: vae_attention(device)), note)
        finally:
            if self._offloaded:
                self._pipe.maybe_free_model_hooks()

    def _count_forward(self, *_: object) -> None:
        self._forwards += 1

    def _ready(self, command: Load, revision: str, seconds: float) -> Ready:
        pipe, z_image = self._pipe, isinstance(self._pipe, ZImagePipeline)
        return Ready(
            model=command.model,
            revision=revision,
            pipeline=type(pipe).__name__,
            device=str(self._device),
            device_name=name_of(self._device),
            backend=backend(),
            dtype=str(pipe.dtype).removeprefix("torch."),
            load_seconds=round(seconds, 3),
            steps_per_forward_less=1 if z_image else 0,
            versions={name: version(name) for name in ("torch", "diffusers", "transformers")},
            **described(self._device),
        )

    # ------------------------------------------------------------ draw

    def draw(self, command: Generate, on_step: OnStep) -> Drawn:
        """Draw one picture. Raises DrawError, or what `on_step` raises."""
        try:
            return self._draw(command, on_step)
        except torch.AcceleratorError as error:  # also out of what tidies up after another
            raise DeviceLostError(str(error)) from error

    def _draw(self, command: Generate, on_step: OnStep) -> Drawn:
        self._forwards = 0
        if self._device.type != "cpu":
            torch.cuda.reset_peak_memory_stats(self._device)
        try:
            with (
                torch.no_grad(),
                _tiles(getattr(self._pipe, "vae", None), wanted=command.tiled),
            ):
                if isinstance(self._pipe, ZImagePipeline):
                    return self._draw_z_image(command, on_step)
                return self._draw_other(command, on_step)
        except torch.OutOfMemoryError:
            # Raised below: here the traceback still holds the tensors of the frames it went through.
            problem = f"The GPU has too little memory for {command.width}x{command.height}."
        finally:
            if self._offloaded:
                # An aborted call leaves the transformer on the card, next to the text encoder.
                self._pipe.maybe_free_model_hooks()
        torch.cuda.empty_cache()
        raise OutOfMemoryError(problem)

    def _draw_z_image(self, command: Generate, on_step: OnStep) -> Drawn:
        self._count_tokens(command.prompt)
        seconds: dict[str, float] = {}
        guided = command.guidance > 0
        width, height = self._canvas(command)
        with self._timed(seconds, "text_encode"):
            embeds, negative_embeds = self._pipe.encode_prompt(
                [command.prompt],  # a list of our own: diffusers rewrites it in place
                do_classifier_free_guidance=guided,
                max_sequence_length=MAX_TOKENS,
            )
        with self._timed(seconds, "denoise"):
            latents = self._pipe(
                prompt_embeds=embeds,
                negative_prompt_embeds=negative_embeds if guided else None,
                width=width,
                height=height,
                # Explicit sigmas: releases of diffusers count steps differently.
                num_inference_steps=command.forwards,
                sigmas=sigmas(command.forwards),
                guidance_scale=command.guidance,
                generator=_generator(command.seed),
                output_type="latent",
                return_dict=False,
                callback_on_step_end=self._callback(on_step, command.forwards),
            )[0]
        if self._forwards != command.forwards:
            raise RuntimeError(
                f"{self._forwards} forwards were run instead of {command.forwards}"
            )
        with self._timed(seconds, "vae_decode"):
            pixels = self._decode(latents)
        return self._drawn(cropped(pixels, command.width, command.height), seconds)

    def _draw_other(self, command: Generate, on_step: OnStep) -> Drawn:
        """Draw with another class: one call, whose whole time counts as denoising."""
        self._count_tokens_of_other(command.prompt)
        seconds = {"text_encode": 0.0, "vae_decode": 0.0}
        width, height = self._canvas(command)
        with self._timed(seconds, "denoise"):
            image = self._pipe(
                prompt=command.prompt,
                width=width,
                height=height,
                num_inference_steps=command.forwards,
                guidance_scale=command.guidance,
                generator=_generator(command.seed),
                output_type="pt",
                return_dict=False,
                callback_on_step_end=self._callback(on_step, command.forwards),
            )[0]
        pixels = cropped(_pixels(image * 2 - 1), command.width, command.height)
        return self._drawn(pixels, seconds)

    def _canvas(self, command: Generate) -> tuple[int, int]:
        """Return the least width and height of at least those asked that the model can draw."""
        width, height = (
            -(-side // self._step) * self._step for side in (command.width, command.height)
        )
        return width, height

    def _count_tokens(self, prompt: str) -> None:
        """Refuse what the text encoder would cut off silently."""
        templated = self._pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        count = len(self._pipe.tokenizer(templated).input_ids)
        if count > MAX_TOKENS:
            raise _too_long(count, MAX_TOKENS)

    def _count_tokens_of_other(self, prompt: str) -> None:
        """Refuse what every text encoder of the pipeline would cut off silently.

        One that reads it all is enough: with Flux and SD3, CLIP reads the beginning and T5 all.
        """
        counted = [
            (len(part(prompt, verbose=False).input_ids), part.model_max_length)
            for name, part in self._pipe.components.items()
            if name.startswith("tokenizer") and part is not None
        ]
        if counted and all(count > limit for count, limit in counted):
            raise _too_long(*max(counted, key=operator.itemgetter(1)))

    def _callback(self, on_step: OnStep, steps: int) -> Callable[..., dict[str, Any]]:
        def callback(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            # The device runs ahead of us: without this, a cancel would come after the last step.
            self._synchronize()
            if step + 1 == steps and not torch.isfinite(tensors["latents"]).all():
                raise NanOutputError("The model gave values that are no numbers.")
            on_step(step + 1, steps)
            return tensors

        return callback

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipe.vae
        latents = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        with vae_attention(self._device):
            return _pixels(vae.decode(latents, return_dict=False)[0])

    def _drawn(self, pixels: torch.Tensor, seconds: dict[str, float]) -> Drawn:
        return Drawn(pixels.cpu().numpy(), self._forwards, seconds, memory_of(self._device))

    @contextlib.contextmanager
    def _timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._synchronize()
        seconds[stage] = round(time.monotonic() - started, 6)

    def _synchronize(self) -> None:
        if self._device.type != "cpu":
            torch.cuda.synchronize(self._device)


def sigmas(forwards: int) -> list[float]:
    """Return the noise levels of a schedule, 1 down to 1/n, before the scheduler's shift.

    What the model was distilled on for 8 forwards; passed explicitly because diffusers up to
    0.38 and from 0.39 on derive different ones from the same number of steps.
    """
    return [1 - index / forwards for index in range(forwards)]


def _too_long(count: int, limit: int) -> PromptTooLongError:
    return PromptTooLongError(
        f"The prompt has {count} tokens (with what the model adds); the model reads {limit}. "
        "Shorten it."
    )


def _generator(seed: int) -> torch.Generator:
    """Return a fresh CPU generator: the same noise on every device."""
    return torch.Generator("cpu").manual_seed(seed)


def _pixels(image: torch.Tensor) -> torch.Tensor:
    """Turn 1 x 3 x H x W in -1..1 into H x W x 3, uint8, checking for what is no number."""
    if not torch.isfinite(image).all():
        raise NanOutputError("The decoder gave values that are no numbers.")
    scaled = image[0].float().mul(127.5).add(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(1, 2, 0).contiguous()


def cropped(pixels: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Return the middle of H x W x 3 pixels: as much is cut off above as below, left as right."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width].contiguous()


@contextlib.contextmanager
def _tiles(vae: Any, *, wanted: bool) -> Iterator[None]:
    """Decode in tiles meanwhile: the peak of memory is that of a tile, seams are blended.

    Set for one picture and taken back: a tiled picture is a little different, and slower. Without
    the two sizes diffusers leaves what is no larger than 1024x1024 in one piece.
    """
    names = [name for name in ("use_tiling", *TILE_SIZES) if hasattr(vae, name)]
    if not wanted or not names:
        yield
        return
    before = {name: getattr(vae, name) for name in names}
    try:
        for name in names:
            setattr(vae, name, TILE_SIZES.get(name, True))
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
