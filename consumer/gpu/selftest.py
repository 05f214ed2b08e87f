"""The self-test: proves the arithmetic of a device before it draws for anybody.

A card, a driver or a kernel can be wrong without a word: pictures then come out as noise, black,
or subtly off, each a success by all other signs. Attention is compared with torch's plain backend
at the two head sizes in use, and the decoder with itself. On a GPU: not run on hardware.
"""

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from consumer.gpu.pipeline import LoadError

HEAD_OF_TRANSFORMER, HEAD_OF_VAE = 128, 512
"""Channels of a head: in Z-Image's transformer, and in the middle of its VAE."""
TOKENS = {"cpu": 160, "cuda": 4128}
"""On a GPU as many as a picture of 1024x1024 has, with 32 of text; no multiple of any tile."""
HEADS = 2
TOLERANCE = {torch.float32: 5e-3, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Of a token's error, against its length. Rounding alone made 2.6e-6, 2.9e-3 and 3.7e-4 (measured
on a CPU; TF32 would make more than the first). One computed from wrong numbers is off by about 1."""
LATENTS = {"cpu": 8, "cuda": 64}
"""Sides of what the decoder gets; 64 are 512 pixels."""
DECODE_TOLERANCE = {torch.float32: 2 / 255, torch.bfloat16: 0.3, torch.float16: 0.05}
"""Between two decodes of the same, of a range of 2. Not zero: a library may sum in another order
the second time. Convolutions that round otherwise made 4e-6, 0.11 and 0.011 at the most (measured
on a CPU, on a tiny random VAE and on one of the real shape); a wrong tile is off by about 1."""
FLAT = 1e-4
"""Standard deviation of a picture below which it is one colour; a tiny random VAE's is 0.27."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a pipeline is tested."""

    vae: Any
    """A diffusers AutoencoderKL; another decoder, or none, is left to the pictures."""
    device: torch.device
    dtype: torch.dtype
    vae_attention: Callable[[], AbstractContextManager[None]]
    """The backends that the VAE's attention runs on there."""


def self_test(parts: Parts, note: Callable[[str], None]) -> None:
    """Prove the device by work.

    Raises:
        LoadError: it computes wrong; the message says what, and what helps.
    """
    note(f"testing the arithmetic of {parts.device}")
    with torch.no_grad():
        _test_attention(parts, HEAD_OF_TRANSFORMER, contextlib.nullcontext)
        _test_attention(parts, HEAD_OF_VAE, parts.vae_attention)
        if isinstance(parts.vae, AutoencoderKL):
            _test_decoder(parts)


# ---------------------------------------------------------------- attention


def _test_attention(
    parts: Parts, head: int, backends: Callable[[], AbstractContextManager[None]]
) -> None:
    generator = torch.Generator("cpu").manual_seed(head)
    shape = (1, HEADS, TOKENS[parts.device.type], head)
    query, key, value = (
        torch.randn(shape, generator=generator).to(parts.device, parts.dtype) for _ in range(3)
    )
    with backends():
        found = scaled_dot_product_attention(query, key, value).float()
    with sdpa_kernel(SDPBackend.MATH):
        wanted = scaled_dot_product_attention(query.float(), key.float(), value.float())
    error = worst_token(found, wanted)
    # Written so that a NaN fails.
    if not error <= TOLERANCE[parts.dtype]:
        raise _wrong_attention(parts, head, error)


def worst_token(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest error of a token, as a share of its length. Shapes: ... x tokens x head.

    Of each token, not of all: a kernel that is wrong in its last tile only is wrong in a corner
    of the picture.
    """
    return float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max())


def _wrong_attention(parts: Parts, head: int, error: float) -> LoadError:
    shown = "no number" if math.isnan(error) else f"off by {error:.3g}"
    if torch.version.hip:
        remedy = (
            "Unset TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL where it is set, or install a torch for "
            "another ROCm"
        )
    else:
        remedy = "Install another build of torch for this card"
    # Permanent: the same kernels give the same numbers in a fresh process.
    return LoadError(
        f"Attention with heads of {head} is wrong on {parts.device} in {_name(parts.dtype)} "
        f"({shown} against the math backend; {TOLERANCE[parts.dtype]:g} is allowed): pictures "
        f"would be, too. {remedy}, or set IMAGE_GEN_DEVICE=cpu.",
        permanent=True,
    )


# ---------------------------------------------------------------- decoder


def _test_decoder(parts: Parts) -> None:
    side = LATENTS[parts.device.type]
    generator = torch.Generator("cpu").manual_seed(side)
    shape = (1, parts.vae.config.latent_channels, side, side)
    latents = torch.randn(shape, generator=generator).to(parts.device, parts.vae.dtype)
    with parts.vae_attention():
        first, second = (
            parts.vae.decode(latents, return_dict=False)[0].float() for _ in range(2)
        )
    problem = decoder_problem(first, second, DECODE_TOLERANCE[parts.vae.dtype])
    if problem is not None:
        # Not permanent: a card that computes otherwise each time may be cured by a reset.
        raise LoadError(
            f"The VAE decodes wrong on {parts.device} in {_name(parts.vae.dtype)}: {problem}. "
            "Restart the machine and look at the driver's log (dmesg); if it stays, the card or "
            "its memory is broken, or this torch is not for it. IMAGE_GEN_DEVICE=cpu does without.",
            permanent=False,
        )


def decoder_problem(
    first: torch.Tensor, second: torch.Tensor, allowed: float = DECODE_TOLERANCE[torch.float32]
) -> str | None:
    """Return what is wrong with two decodes of the same latents; None if nothing is."""
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        return "it gives values that are no numbers"
    if float(first.std()) < FLAT:
        return "it gives one flat colour"
    difference = float((first - second).abs().max())
    if difference > allowed:
        return f"the same latents give two pictures, {difference:.3g} apart in a range of 2"
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
