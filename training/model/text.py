"""The text side: a byte-level tokenizer that learned its pieces from captions, and an encoder."""

import json
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from training.model.sizes import HEAD, Sizes

MULTIPLE = 32
"""The transformer pads a caption to a multiple of it."""
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] | lower | trim }}{% endfor %}<|im_end|>"
)
"""Lower case, and nothing round it: a model this small has no weights to spare for a template."""


def make_tokenizer(captions: Iterable[str], sizes: Sizes) -> Any:
    """Learn the pieces from captions. Any text encodes: all 256 bytes are pieces."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=sizes.vocabulary - len(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator((caption.lower() for caption in captions), trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for special in _SPECIAL:
        vocabulary[special] = len(vocabulary)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=4096,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def tokens(tokenizer: Any, captions: list[str]) -> list[list[int]]:
    """Return each caption's tokens, as the pipeline makes them."""
    templated = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": caption}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        for caption in captions
    ]
    found: list[list[int]] = tokenizer(templated).input_ids
    return found


def padded(found: list[int], length: int, filler: int) -> list[int]:
    """Fill up on the right, as the pipeline does, or cut."""
    return [*found[:length], *[filler] * max(0, length - len(found))]


def make_encoder(vocabulary: int, sizes: Sizes) -> Any:
    """Return the text encoder with random weights."""
    return Qwen3Model(
        Qwen3Config(
            hidden_size=sizes.text_width,
            intermediate_size=2 * sizes.text_width,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=max(1, sizes.text_width // HEAD),
            num_key_value_heads=max(1, sizes.text_width // HEAD),
            head_dim=HEAD,
            vocab_size=vocabulary,
            max_position_embeddings=2048,
        )
    )


def encode(encoder: Any, ids: Tensor) -> Tensor:
    """Return what the pipeline takes of the encoder: n x length x width.

    What is right of a caption has no part in it, as each token sees only those before it.
    """
    seen: Tensor = encoder(
        input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
    ).hidden_states[-2]
    return seen
