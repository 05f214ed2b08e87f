"""The transformer, and its forward for a whole batch of one size: no loop over pictures.

The stock forward takes lists and costs Python time for every picture; with captions padded to one
multiple of 32 and pictures of one size all of that is one reshape and shared rotary places.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor

from training.model.sizes import AXES, HEAD, LATENTS, Sizes
from training.model.text import MULTIPLE

_EARLY = 2
"""Layers before the picture is asked what it will show."""


def make_transformer(sizes: Sizes) -> Any:
    """Return the transformer with random weights."""
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=LATENTS,
        dim=sizes.dim,
        n_layers=sizes.layers,
        n_refiner_layers=sizes.refiners,
        n_heads=sizes.dim // HEAD,
        n_kv_heads=sizes.dim // HEAD,
        qk_norm=True,
        cap_feat_dim=sizes.text_width,
        axes_dims=list(AXES),
        axes_lens=[1536, 512, 512],
    )
    with torch.no_grad():
        transformer.x_pad_token.normal_(std=0.02)
        transformer.cap_pad_token.normal_(std=0.02)
    return transformer


@dataclass(frozen=True)
class Pass:
    """What one forward found, and what it thought on the way."""

    direction: Tensor
    """x0 - noise, as the latents."""
    words: Tensor
    """n x length x dim: the captions as the layers get them."""
    early: Tensor
    """n x tokens x dim: the picture after the second layer."""


def passed(
    model: Any,
    latents: Tensor,
    time: Tensor,
    text: Tensor,
    known: Tensor,
    places: tuple[int, int] = (1, 0),
) -> Pass:
    """Find what `model.forward` does, for one size and one padded length of captions.

    `latents` n x LATENTS x h x w, `time` n (1 - sigma), `text` n x length x width with length a multiple
    of 32, `known` n x length: what is caption and not filler; each caption must be longer than
    length - 32, as the stock forward pads no further than that. `places` are how far the tokens of the
    picture are apart and where the first one is: two apart, 256x256 is a rough sketch of 512x512.
    """
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    lighting = model.t_embedder(time * model.t_scale).type_as(latents)
    picture = model.all_x_embedder["2-1"](patches(latents))
    filler = -(height * width) % MULTIPLE
    if filler:
        pad = model.x_pad_token.to(picture.dtype).expand(len(picture), filler, -1)
        picture = torch.cat([picture, pad], 1)
    there = _turns(model, _text_places(text))
    here = _turns(model, _places(height, width, text, filler, places))
    for layer in model.noise_refiner:
        picture = layer(picture, None, here, lighting)
    words = refined(model, text, known)
    both, turns = torch.cat([picture, words], 1), torch.cat([here, there], 1)
    early = picture
    for index, layer in enumerate(model.layers):
        both = layer(both, None, turns, lighting)
        if index < _EARLY:
            early = both[:, : height * width]
    out = model.all_final_layer["2-1"](both, c=lighting)[:, : height * width]
    return Pass(unpatched(out, height, width), words, early)


def refined(model: Any, text: Tensor, known: Tensor) -> Tensor:
    """Return the captions as the layers get them, n x length x dim."""
    if text.shape[1] % MULTIPLE:
        raise ValueError(
            f"Captions are padded to a multiple of {MULTIPLE}, not {text.shape[1]}."
        )
    words = model.cap_embedder(text)
    words = torch.where(known[..., None], words, model.cap_pad_token.to(words.dtype))
    there = _turns(model, _text_places(text))
    for layer in model.context_refiner:
        words = layer(words, None, there)
    refined: Tensor = words
    return refined


def patches(latents: Tensor) -> Tensor:
    """N x c x 2h x 2w → n x hw x 4c, channels last within a patch."""
    count, channels, height, width = latents.shape
    split = latents.view(count, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 2, 4, 3, 5, 1).reshape(count, height * width // 4, 4 * channels)


def unpatched(out: Tensor, height: int, width: int) -> Tensor:
    """The way back; `height` and `width` in patches."""
    count, _, four = out.shape
    split = out.view(count, height, width, 2, 2, four // 4)
    return split.permute(0, 5, 1, 3, 2, 4).reshape(count, four // 4, 2 * height, 2 * width)


def _turns(model: Any, places: Tensor) -> Tensor:
    turns: Tensor = model.rope_embedder(places)[None]
    return turns


def _text_places(text: Tensor) -> Tensor:
    """The rotary places of a caption's tokens: (text, row, column) each."""
    words = torch.zeros(text.shape[1], 3, dtype=torch.long, device=text.device)
    words[:, 0] = torch.arange(1, text.shape[1] + 1, device=text.device)
    return words


def _places(
    height: int, width: int, text: Tensor, filler: int, places: tuple[int, int]
) -> Tensor:
    """Those of the picture's tokens after it, and of what fills them up."""
    apart, first = places
    rows = torch.arange(height, device=text.device).repeat_interleave(width)
    columns = torch.arange(width, device=text.device).repeat(height)
    after = torch.full_like(rows, text.shape[1] + 1)
    picture = torch.stack([after, first + apart * rows, first + apart * columns], 1)
    return torch.cat([picture, picture.new_zeros(filler, 3)])
