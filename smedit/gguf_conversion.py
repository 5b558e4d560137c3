"""Convert a GGUF file, once, to float32 safetensors with its tokenizer.

The folder written here loads in a second or two; reading GGUF takes many times that.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import tempfile
from pathlib import Path

import torch
from gguf import GGUFReader, GGUFValueType
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

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

_NUMBERS = {
    GGUFValueType.UINT8: 1,
    GGUFValueType.INT8: 1,
    GGUFValueType.BOOL: 1,
    GGUFValueType.UINT16: 2,
    GGUFValueType.INT16: 2,
    GGUFValueType.UINT32: 4,
    GGUFValueType.INT32: 4,
    GGUFValueType.FLOAT32: 4,
    GGUFValueType.UINT64: 8,
    GGUFValueType.INT64: 8,
    GGUFValueType.FLOAT64: 8,
}
"""GGUF's types of numbers, and their bytes."""


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
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            light = Path(scratch, "light.gguf")
            _copy_without_tokens(gguf, light)
            kind = _tokenizer_kind(light)
            if kind not in _PRE_TOKENIZERS:
                known = ", ".join("/".join(k) for k in _PRE_TOKENIZERS)
                raise UserError(
                    f"model {model_name!r}: GGUF tokenizer {'/'.join(kind)} was not checked (known: "
                    f"{known}); use the model's safetensors with source hub or path"
                )
            model = AutoModelForCausalLM.from_pretrained(
                scratch, gguf_file=light.name, dtype=torch.float32, local_files_only=True
            )
        # The general class takes what the file says; AutoTokenizer would first read the model's
        # configuration out of the file, only to choose a class.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        NotImplementedError,
        struct.error,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model {model_name!r}: cannot convert the GGUF file ({reason})") from error
    _save_tokenizer(tokenizer, _PRE_TOKENIZERS[kind], folder)
    # The weights are plain float32 now; a leftover note on quantization would stop the saving.
    model.hf_quantizer.remove_quantization_config(model)
    model.save_pretrained(folder)


def _copy_without_tokens(gguf: Path, light: Path) -> None:
    """Copy a GGUF file, less the tokenizer's lists (tokens, scores, types, merges).

    transformers reads all metadata several times to load a model, an entry at a time: half a minute
    each time for Gemma's 262,144 tokens. Of these lists a model needs nothing but the number of
    tokens, which the copy states as the vocabulary's size.
    """
    string, number, array = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.ARRAY
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, version, n_tensors, n_fields = struct.unpack_from("<4sIQQ", data)
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("it does not start as a GGUF file of version 2 or 3")
        position = 24
        fields: dict[str, bytes] = {}  # name → type and value
        n_tokens = 0
        for _ in range(n_fields):
            start, position = position + 8, _skip(data, position, string)
            name = data[start:position].decode()
            (kind,) = struct.unpack_from("<I", data, position)
            start, position = position, _skip(data, position + 4, kind)
            if not (name.startswith("tokenizer.") and kind == array):
                fields[name] = data[start:position]
            elif name == "tokenizer.ggml.tokens":
                (n_tokens,) = struct.unpack_from("<Q", data, start + 8)
        architecture = fields["general.architecture"][12:].decode()
        fields.setdefault(f"{architecture}.vocab_size", struct.pack("<II", number, n_tokens))
        header = struct.pack("<4sIQQ", magic, version, n_tensors, len(fields))
        for name, field in fields.items():
            header += struct.pack("<Q", len(name.encode())) + name.encode() + field
        start = position
        for _ in range(n_tensors):
            position = _skip(data, position, string)
            (n_dimensions,) = struct.unpack_from("<I", data, position)
            position += 4 + 8 * n_dimensions + 12
        header += data[start:position]
        # Tensors are addressed from the next multiple of the alignment on.
        (alignment,) = struct.unpack("<I", fields.get("general.alignment", b"....\x20\0\0\0")[4:])
        with light.open("wb") as copy:
            copy.write(header + bytes(-len(header) % alignment))
            file.seek(position + -position % alignment)
            shutil.copyfileobj(file, copy, length=1 << 20)


def _skip(data: mmap.mmap, position: int, kind: int) -> int:
    """Where the value of a GGUF type that starts at `position` ends."""
    if kind == GGUFValueType.STRING:
        return position + 8 + struct.unpack_from("<Q", data, position)[0]
    if kind == GGUFValueType.ARRAY:
        kind, length = struct.unpack_from("<IQ", data, position)
        position += 12
        if kind in _NUMBERS:
            return position + length * _NUMBERS[kind]
        for _ in range(length):
            position = _skip(data, position, kind)
        return position
    return position + _NUMBERS[kind]


def _tokenizer_kind(gguf: Path) -> tuple[str, str]:
    fields = GGUFReader(gguf).fields
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    model, pre = (fields[k].contents() if k in fields else "none" for k in keys)
    return str(model), str(pre)


def _save_tokenizer(
    tokenizer: PreTrainedTokenizerFast, pre_tokenizer: PreTokenizer | None, folder: Path
) -> None:
    backend = tokenizer.backend_tokenizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    tokenizer.save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"), pretty=False)
