"""The picture codec: an AutoencoderKL that starts as a smooth colour upsampler, and its losses."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from training.model.sizes import DOWN, LATENTS, Sizes

_PAIRS = 8
"""Channels that carry colour from end to end at the start: +-RGB and two that stand still."""
_SPREAD = 0.6
"""About the standard deviation of a picture's mean colours, -1..1."""
_LEVELS = 3
_EDGES = 0.7


def make_codec(sizes: Sizes) -> Any:
    """Return the codec with its start: latents 0..2 are a patch's mean red, green and blue.

    One norm group: with two channels to a group a flat colour has no variance but its own and is
    normalised away (such a codec stood at 12 dB). From plain random weights it is slow to learn
    colours at all (13 dB after 160 steps, where this one begins at 20).
    """
    count = len(sizes.decoder)
    codec = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * count,
        up_block_types=["UpDecoderBlock2D"] * count,
        block_out_channels=list(sizes.decoder),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=1,
        sample_size=1024,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        _pass_colours(codec.encoder)
        _pass_colours(codec.decoder)
        _encoder_ends(codec.encoder)
        _decoder_ends(codec.decoder)
    return codec


def _pass_colours(half: Any) -> None:
    """Have every block hand the first channels on and add nothing of its own."""
    for module in half.modules():
        if isinstance(module, ResnetBlock2D):
            _quiet(module)
    for block in getattr(half, "up_blocks", ()):
        for up in block.upsamplers or ():
            _smoothing(up.conv)
    for block in getattr(half, "down_blocks", ()):
        for down in block.downsamplers or ():
            _smoothing(down.conv)


def _quiet(block: ResnetBlock2D) -> None:
    block.conv2.weight.zero_()
    block.conv2.bias.zero_()
    if block.conv_shortcut is not None:
        weight = block.conv_shortcut.weight
        weight.mul_(0.5)
        block.conv_shortcut.bias.zero_()
        weight[:_PAIRS] = 0
        for channel in range(_PAIRS):
            weight[channel, channel, 0, 0] = 1


def _smoothing(convolution: nn.Conv2d) -> None:
    """Up: a tent, which blurs the doubled pixels. Down (stride 2): the mean of four."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    if convolution.stride[0] == 2:
        kernel = torch.tensor([0.5, 0.5, 0.0])
    bias = _bias(convolution)
    bias.zero_()
    convolution.weight[:_PAIRS] = 0
    for channel in range(_PAIRS):
        convolution.weight[channel, channel] = kernel[:, None] * kernel[None]


def _bias(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        raise ValueError("A convolution of the codec has no bias.")
    return convolution.bias


def _paired(convolution: nn.Conv2d) -> None:
    """Three channels in → six of opposite signs out, and two constant ones for the norm."""
    bias = _bias(convolution)
    convolution.weight[:_PAIRS] = 0
    bias[:_PAIRS] = 0
    for colour in range(3):
        convolution.weight[2 * colour, colour, 1, 1] = 1
        convolution.weight[2 * colour + 1, colour, 1, 1] = -1
    bias[6], bias[7] = 2.0, -2.0


def _unpaired(convolution: nn.Conv2d, gain: float) -> None:
    convolution.weight[:3] = 0
    for colour in range(3):
        convolution.weight[colour, 2 * colour, 1, 1] = gain
        convolution.weight[colour, 2 * colour + 1, 1, 1] = -gain


def _encoder_ends(encoder: Any) -> None:
    _paired(encoder.conv_in)
    _unpaired(encoder.conv_out, 1.0)
    encoder.conv_out.bias.zero_()
    encoder.conv_out.weight[LATENTS:] = 0
    encoder.conv_out.bias[LATENTS:] = -12.0  # the logarithm of no variance to speak of


def _decoder_ends(decoder: Any) -> None:
    _paired(decoder.conv_in)
    decoder.conv_out.weight.zero_()
    decoder.conv_out.bias.zero_()
    _unpaired(decoder.conv_out, 1.32 * _SPREAD)


class PatchEncoder(nn.Module):
    """The encoder that the decoder learns with: cheap, and sure of the colours from the start.

    Latents 0..2 are a patch's mean colours over their usual spread, by arithmetic; a small network
    of 16x16 patches finds the others, normalised to mean 0 and variance 1, so that the
    transformer's noise hides all of them alike. It is not shipped: the stock encoder learns to
    say the same.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.strokes = nn.Conv2d(3, 32, 4, 4)
        self.patch = nn.Conv2d(32 * (DOWN // 4) ** 2, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=1)
        self.within = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, LATENTS - 3, 1)
        self.norm = nn.BatchNorm2d(LATENTS - 3, affine=False, momentum=0.02)

    @override
    def forward(self, pictures: Tensor) -> Tensor:
        """Return n x LATENTS x h/16 x w/16 of pictures n x 3 x h x w, -1..1."""
        colours = functional.avg_pool2d(pictures, DOWN)
        smooth = functional.interpolate(colours, scale_factor=DOWN, mode="bilinear")
        seen = functional.gelu(self.strokes(pictures - smooth))
        seen = functional.gelu(self.patch(functional.pixel_unshuffle(seen, DOWN // 4)))
        seen = seen + functional.gelu(self.around(seen))
        seen = seen + functional.gelu(self.within(seen))
        return torch.cat([colours / _SPREAD, self.norm(self.out(seen))], 1)


def loss_of(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error, of edges too, at the full size and smaller ones, and squared error."""
    total = (drawn - wanted).pow(2).mean()
    for level in range(_LEVELS):
        if level:
            drawn, wanted = functional.avg_pool2d(drawn, 2), functional.avg_pool2d(wanted, 2)
        total = total + ((drawn - wanted).abs().mean() + _EDGES * _edges(drawn - wanted)) / (
            level + 1
        )
    return total


def _edges(difference: Tensor) -> Tensor:
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return across + down


def decibels(drawn: Tensor, wanted: Tensor) -> float:
    """Peak signal to noise of pictures -1..1."""
    error = (drawn.clamp(-1, 1) - wanted).pow(2).mean()
    return float(10 * torch.log10(4 / error.clamp(min=1e-10)))
