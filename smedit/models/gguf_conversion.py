"""Convert a GGUF file, once, to float32 safetensors with its tokenizer.

The folder written here loads in a second or two; reading GGUF takes many times that.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFReader, GGUFValueType
from gguf.gguf_reader import READER_SUPPORTED_VERSIONS
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from smedit.errors import UserError
from smedit.store.files import disk_failed

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
        If the file is no GGUF or damaged, lacks weights, or its tokenizer is of a kind that was not
        checked.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            light = Path(scratch, gguf.name)
            _copy_without_tokens(gguf, light)
            kind = _checked_kind(model_name, light)
            model, report = AutoModelForCausalLM.from_pretrained(
                scratch,
                gguf_file=light.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            if report["missing_keys"]:  # transformers would go on with random values instead
                raise ValueError(f"it lacks the weights {min(report['missing_keys'])!r}")
        # AutoTokenizer would first read the model's configuration, slowly, to choose a class. The
        # general class builds the same tokenizer from the file, and reads tokenizer.json as it is.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
    except UserError:
        raise
    except Exception as error:  # whatever its reader stumbles over in a damaged file
        if disk_failed(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"model {model_name!r}: cannot convert the GGUF file ({reason}); use an undamaged file "
            "of a model that transformers knows"
        ) from error
    _save_tokenizer(tokenizer, _PRE_TOKENIZERS[kind], folder)
    # The weights are plain float32 now; a leftover note on quantization would stop the saving.
    model.hf_quantizer.remove_quantization_config(model)
    model.save_pretrained(folder)


def _copy_without_tokens(gguf: Path, light: Path) -> None:
    """Copy a GGUF file, less the tokenizer's lists (tokens, scores, types, merges).

    To load a model, transformers reads the whole header twice, an entry at a time: half a
    minute each for Gemma's 262,144 tokens. All that the model needs of them is their number, which
    the copy states as the vocabulary's size.
    """
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, version, n_tensors, n_fields = struct.unpack_from("<4sIQQ", data)
        if magic != b"GGUF" or version not in READER_SUPPORTED_VERSIONS:
            raise ValueError("it does not start like one of a known version")
        position, n_tokens = 24, 0
        fields: dict[str, bytes] = {}  # name → type (4 bytes) and value
        for _ in range(n_fields):
            start, position = position + 8, _end(data, position, GGUFValueType.STRING)
            name = data[start:position].decode()
            (kind,) = struct.unpack_from("<I", data, position)
            start, position = position, _end(data, position + 4, kind)
            if kind != GGUFValueType.ARRAY or not name.startswith("tokenizer."):
                fields[name] = data[start:position]
            elif name == "tokenizer.ggml.tokens":
                (n_tokens,) = struct.unpack_from("<Q", data, start + 8)
        start = position
        for _ in range(n_tensors):  # name, number of dimensions, dimensions, type, address
            position = _end(data, position, GGUFValueType.STRING)
            (n_dimensions,) = struct.unpack_from("<I", data, position)
            position += 4 + 8 * n_dimensions + 4 + 8
        tensors = data[start:position]

        architecture = fields["general.architecture"][12:].decode()
        size = struct.pack("<II", GGUFValueType.UINT32, n_tokens)
        fields.setdefault(f"{architecture}.vocab_size", size)
        header = struct.pack("<4sIQQ", magic, version, n_tensors, len(fields))
        for name, field in fields.items():
            header += struct.pack("<Q", len(name.encode())) + name.encode() + field
        header += tensors
        # The tensors' values, and their addresses, begin at the next multiple of the alignment.
        default = struct.pack("<II", GGUFValueType.UINT32, GGUF_DEFAULT_ALIGNMENT)
        (alignment,) = struct.unpack_from("<I", fields.get("general.alignment", default), 4)
        with light.open("wb") as copy:
            copy.write(header + bytes(-len(header) % alignment))
            file.seek(position + -position % alignment)
            shutil.copyfileobj(file, copy, length=1 << 20)


def _end(data: mmap.mmap, position: int, kind: int) -> int:
    """Where the value that starts at `position` ends, by its GGUF type."""
    if kind == GGUFValueType.STRING:
        (length,) = struct.unpack_from("<Q", data, position)
        return position + 8 + length
    if kind == GGUFValueType.ARRAY:
        kind, length = struct.unpack_from("<IQ", data, position)
        position += 12
        if kind not in (GGUFValueType.STRING, GGUFValueType.ARRAY):
            return position + length * _bytes(kind)
        for _ in range(length):
            position = _end(data, position, kind)
        return position
    return position + _bytes(kind)


def _bytes(kind: int) -> int:
    # GGUF's types of numbers have numpy's names
    return np.dtype(GGUFValueType(kind).name.lower()).itemsize


def _checked_kind(model_name: str, gguf: Path) -> tuple[str, str]:
    fields = GGUFReader(gguf).fields
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    model, pre = (str(fields[k].contents()) if k in fields else "none" for k in keys)
    if (model, pre) not in _PRE_TOKENIZERS:
        known = ", ".join("/".join(k) for k in _PRE_TOKENIZERS)
        raise UserError(
            f"model {model_name!r}: GGUF tokenizer {model}/{pre} was not checked (known: {known}); "
            "use the model's safetensors with source hub or path"
        )
    return model, pre


def _save_tokenizer(
    tokenizer: PreTrainedTokenizerFast, pre_tokenizer: PreTokenizer | None, folder: Path
) -> None:
    backend = tokenizer.backend_tokenizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    tokenizer.save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"), pretty=False)
