"""Convert a GGUF file, once, to float32 safetensors with its tokenizer.

Reading GGUF takes transformers 20 to 50 seconds; the folder written here loads in a few.
"""

from __future__ import annotations

from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from smedit.errors import UserError

_PRE_TOKENIZERS: dict[tuple[str, str], PreTokenizer | None] = {
    # GGUF only names the way in which text is split before the merges, and transformers takes its
    # general byte-level split. SmolLM2 also sets every digit apart; without that, two spaces before
    # a number get other tokens than in training.
    ("gpt2", "smollm"): PreTokenizers(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    ),
    # Gemma's sentencepiece: transformers' conversion is complete, <bos> in front included.
    ("llama", "default"): None,
}
"""Tokenizer kinds (GGUF's `model` and `pre`) that were checked, and the split that each needs."""


def convert_gguf(model_name: str, gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a transformers folder.

    Quantized weights are dequantized; the values are those that the GGUF file stands for.

    Parameters
    ----------
    model_name : str
        The model's name, for messages.
    gguf : Path
        The GGUF file.
    folder : Path
        An existing folder; gets config.json, safetensors in float32 and the tokenizer's files.

    Raises
    ------
    UserError
        If the file is no GGUF, or its tokenizer is of a kind that was not checked.
    """
    try:
        kind = _tokenizer_kind(gguf)
        if kind not in _PRE_TOKENIZERS:
            known = ", ".join("/".join(k) for k in _PRE_TOKENIZERS)
            raise UserError(
                f"model {model_name!r}: GGUF tokenizer {'/'.join(kind)} was not checked (known: "
                f"{known}); use the model's safetensors with source hub or path"
            )
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model {model_name!r}: cannot convert the GGUF file ({reason})") from error
    _save_tokenizer(tokenizer, _PRE_TOKENIZERS[kind], folder)
    # The weights are plain float32 now; a leftover note on quantization would stop the saving.
    model.hf_quantizer.remove_quantization_config(model)
    model.save_pretrained(folder)


def _tokenizer_kind(gguf: Path) -> tuple[str, str]:
    fields = GGUFReader(gguf).fields
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    model, pre = (fields[k].contents() if k in fields else "none" for k in keys)
    return str(model), str(pre)


def _save_tokenizer(
    tokenizer: PreTrainedTokenizerBase, pre_tokenizer: PreTokenizer | None, folder: Path
) -> None:
    backend = tokenizer.backend_tokenizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    # The general class reads tokenizer.json as it is; Gemma's own class builds it anew, slower.
    general = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side=tokenizer.padding_side,
        chat_template=tokenizer.chat_template,
        **tokenizer.special_tokens_map,
    )
    general.save_pretrained(folder)
    general.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
