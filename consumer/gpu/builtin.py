"""The built-in model: the real Z-Image classes at a tiny size, made here in seconds, offline.

Its weights are random, so it draws a texture, not the prompt; it shows that everything around a
model works, on any machine, without a download.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

NAME = "builtin"
REVISION = "random-1"
"""Changes with every change of the recipe: folders of another recipe are not used."""

_SEED = 7
_TEXT_WIDTH = 32
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def ensure_builtin(data_dir: Path) -> Path:
    """Return the folder of the built-in model, made first if it is not there.

    Safe against a second process that does the same, and against being killed half-way.
    """
    folder = data_dir / "models" / f"{NAME}-{REVISION}"
    if (folder / "model_index.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        make_builtin().save_pretrained(unfinished)
        for path in unfinished.rglob("*"):
            # save_pretrained writes weights as 0600; a service of another user reads them too.
            path.chmod(0o755 if path.is_dir() else 0o644)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError:
        # Somebody else was first: theirs is as good as ours.
        if not (folder / "model_index.json").is_file():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def make_builtin() -> Any:
    """Return the tiny pipeline with its random weights, always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False
            ),
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=byte_tokenizer(),
            transformer=_transformer(),
        )


def byte_tokenizer() -> Any:
    """A byte-level tokenizer without merges: any text encodes, one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate((*alphabet, *_SPECIAL))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=4096,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _text_encoder() -> Any:
    return Qwen3Model(
        Qwen3Config(
            hidden_size=_TEXT_WIDTH,
            intermediate_size=2 * _TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=_TEXT_WIDTH // 2,
            vocab_size=256 + len(_SPECIAL),
            max_position_embeddings=4096,
        )
    )


def _transformer() -> Any:
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        qk_norm=True,
        cap_feat_dim=_TEXT_WIDTH,
        axes_dims=[8, 12, 12],  # sums to dim / heads
        axes_lens=[1536, 512, 512],
    )
    with torch.no_grad():
        transformer.x_pad_token.zero_()
        transformer.cap_pad_token.zero_()
    return transformer


def _vae() -> Any:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8, 8, 8, 8],
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def describe(folder: Path) -> str:
    """Return what a folder's pipeline is, by its `_class_name`."""
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text())
    return str(index["_class_name"])
