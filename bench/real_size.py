"""The real size: Z-Image-Turbo's architecture in full, with random weights made on the device.

It costs the memory and the arithmetic of the real model and needs no download. What it draws means
nothing; that the numbers stay finite, what a step takes and what memory it wants does.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import Qwen3Config, Qwen3Model

from bench.random_model import byte_tokenizer
from consumer.gpu.diffusion import DiffusionPipeline
from consumer.gpu.pipeline import LoadError
from consumer.gpu.protocol import Load, Ready

TRANSFORMER: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "qk_norm": True,
    "cap_feat_dim": 2560,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
}
TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": True,
}
"""The published configurations of Tongyi-MAI/Z-Image-Turbo, as far as they differ from defaults."""

SHIFT = 3.0
SEED = 7


def components() -> dict[str, torch.nn.Module]:
    """Return the three networks, on the device and in the dtype that are torch's defaults."""
    return {
        "transformer": ZImageTransformer2DModel(**TRANSFORMER),
        "text_encoder": Qwen3Model(Qwen3Config(**TEXT_ENCODER)),
        "vae": AutoencoderKL(**VAE),
    }


class RealSizePipeline(DiffusionPipeline):
    """The service's own pipeline, but for where the weights come from."""

    def load(self, command: Load, note: Callable[[str], None]) -> Ready:
        """Make the networks on the device."""
        started = time.monotonic()
        self._device = torch.device("cuda" if command.device == "auto" else command.device)
        torch.backends.cudnn.benchmark = False
        note(f"making 20 GB of random weights on {self._device}")
        torch.manual_seed(SEED)
        try:
            parts = made_on(self._device, components)
        except torch.OutOfMemoryError as error:
            raise LoadError(
                f"The real size does not fit on {self._device}: {error}", permanent=True
            ) from error
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT)
        self._adopt(
            ZImagePipeline(scheduler=scheduler, tokenizer=byte_tokenizer(), **parts),
            "fast",
        )
        return self._ready(command, "random weights", time.monotonic() - started)


def made_on(
    device: torch.device, make: Callable[[], dict[str, torch.nn.Module]]
) -> dict[str, torch.nn.Module]:
    """Return what `make` makes in bf16 on this device, with weights under which numbers stay finite.

    Matrices get a standard deviation of 1 / sqrt(inputs), which keeps the scale of what goes
    through them; everything else, norms included, keeps what its class gives it.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            parts = make()
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for part in parts.values():
            part.eval().requires_grad_(requires_grad=False)
            for name, weights in part.named_parameters():
                if name.endswith("pad_token"):
                    weights.zero_()  # made by torch.empty: whatever was in that memory
                elif weights.ndim > 1:
                    weights.normal_(std=(weights[0].numel()) ** -0.5)
    return parts
