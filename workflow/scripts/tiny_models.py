"""Build a tiny random model of every causal language model class of transformers.

``build("llama")`` gives a model of four blocks of width 32, and the names of the projections to
edit in its last two blocks. It takes sizes from the tables here, so it needs no weights and no
network. A script that compares two ways to run a model gets its models here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
from transformers import PreTrainedConfig as Config
from transformers import PreTrainedModel as Model
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

MODEL_TYPES: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

VOCABULARY, WIDTH, BLOCKS, TOKENS = 96, 32, 4, 10
MAX_BYTES = 20_000_000
SEED, SCALE = 0, 0.18

# Every attribute of these names gets this value, in whichever configuration has it. Windows are
# shorter than the ten tokens of the check, so that they count; feed-forward parts are wider than
# the rest, so that a projection down can be told by its shape.
SIZES: dict[str, Any] = {
    name: value
    for value, names in [
        (VOCABULARY, "vocab_size vocab_size_per_layer_input"),
        (VOCABULARY, "pronunciation_vocab_size shape_vocab_size"),
        (0, "pad_token_id bos_token_id eos_token_id"),
        (WIDTH, "hidden_size n_embd d_model emb_dim embedding_size embedding_dim lru_width"),
        (WIDTH, "word_embed_proj_dim input_embedding_size output_embedding_size"),
        (WIDTH, "attention_hidden_size hidden_size_global out_hidden_size vision_output_dim"),
        (WIDTH, "output_channels ext_pw_out_channel depthwise_separable_out_channel"),
        (WIDTH, "nemo_conv_channels adapter_in_dim adapter_out_dim adapter_input_size"),
        (48, "intermediate_size ffn_hidden_size decoder_ffn_dim encoder_ffn_dim ffn_dim n_inner"),
        (48, "dim_ff dff d_ff d_inner feed_forward_size intermediate_size_mlp mlp_dim"),
        (48, "dense_intermediate_size moe_intermediate_size expert_ffn_hidden_size"),
        (48, "shared_intermediate_size shared_expert_intermediate_size"),
        (48, "shared_experts_intermediate_size moe_shared_expert_intermediate_size"),
        (8, "laurel_rank hidden_size_per_layer_input pronunciation_embed_dim shape_embed_dim"),
        (8, "downsample_hidden_size"),
        (BLOCKS, "num_hidden_layers n_layer n_layers num_layers decoder_layers"),
        (BLOCKS, "num_decoder_layers num_blocks num_layers_per_stack"),
        (2, "encoder_layers num_encoder_layers depth num_global_layers"),
        (4, "num_attention_heads n_head n_heads num_heads decoder_attention_heads"),
        (4, "encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads"),
        (4, "attention_heads swa_num_attention_heads"),
        (2, "num_key_value_heads kv_n_heads swa_num_key_value_heads num_kv_shared_layers"),
        (8, "head_dim kv_channels d_kv d_head dim_head attention_head_dim attention_head_size"),
        (8, "swa_head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim index_head_dim"),
        (16, "kv_lora_rank q_lora_rank o_lora_rank qk_head_dim"),
        (4, "rotary_dim index_topk"),
        (16, "index_n_heads"),  # with few, scores tie and the choice of tokens is arbitrary
        (64, "max_position_embeddings n_positions n_ctx context_length max_seq_len"),
        (64, "model_max_length max_target_positions max_source_positions"),
        (64, "original_max_position_embeddings"),
        (5, "sliding_window sliding_window_size window_size attention_window_size"),
        (5, "attention_chunk_size local_attention local_attention_window_len keep_window_size"),
        (True, "use_sliding_window"),
        (2, "max_window_layers"),
        (4, "num_experts num_local_experts n_routed_experts moe_num_experts"),
        (2, "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k zero_expert_num"),
        (1, "n_shared_experts num_shared_experts moe_num_shared_experts"),
        (1, "n_group topk_group num_expert_group"),
        (2, "first_k_dense_replace num_dense_layers moe_layer_start_index"),
        (3, "moe_layer_end_index"),
        ([0, 1], "mlp_only_layers"),
        (8, "mamba_d_state state_size ssm_state_size"),
        (4, "mamba_n_heads mamba_num_heads n_mamba_heads"),
        (4, "linear_num_key_heads linear_num_value_heads linear_num_heads"),
        (8, "linear_key_head_dim linear_value_head_dim linear_head_dim"),
        (16, "mamba_d_head mamba_head_dim mamba_headdim"),
        (64, "mamba_d_ssm"),
        (1, "mamba_n_groups n_groups mamba_ngroups"),
        (4, "time_step_rank mamba_dt_rank adapter_rank chunk_size mamba_chunk_size block_size"),
        (1.0, "logit_scale"),
        # Encoder-style classes let a token see later ones unless told that they decode.
        (True, "is_decoder"),
        (16, "image_size"),
        (8, "patch_size"),
    ]
    for name in names.split()
}

# Latent attention expands keys and values for every head.
IMPLIED: dict[str, dict[str, Any]] = {"kv_lora_rank": {"num_key_value_heads": 4}}

SLIDING_FULL = {"layer_types": ["sliding_attention", "full_attention"] * 2}
LINEAR_FULL = {"layer_types": ["linear_attention", "full_attention"] * 2}
CONV_FULL = {"layer_types": ["conv", "full_attention"] * 2}
DENSE_SPARSE = {"mlp_layer_types": ["dense", "dense", "sparse", "sparse"]}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

# By the type of a configuration, also of one inside another.
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": SLIDING_FULL
    | {"rope_parameters": {"sliding_attention": ROPE, "full_attention": ROPE}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}
    },
    "dots3_note_text": {
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "gemma4_text": {"global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": LINEAR_FULL,
    "inkling_text": DENSE_SPARSE | {"logits_mup_width_multiplier": 1.0},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "laguna": SLIDING_FULL | {"num_attention_heads_per_layer": [4] * 4},
    "lfm2": CONV_FULL | {"block_auto_adjust_ff_dim": False},
    "lfm2_moe": CONV_FULL,
    "mamba2": {"head_dim": 16},
    "mellum": SLIDING_FULL | DENSE_SPARSE,
    "minicpm3": {"dim_model_base": 32},
    "minimax_m3_vl_text": DENSE_SPARSE
    | {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
        "index_n_heads": 4,
        "index_block_size": 2,
        "index_topk_blocks": 2,
    },
    "ministral": SLIDING_FULL,
    "mllama_text_model": {"cross_attention_layers": [1]},
    "musicgen_decoder": {"num_codebooks": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "qwen2_moe": SLIDING_FULL,
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 50,
        "make_ngram_vocab_size_divisible_by": 8,
        "split_ngram_parts": 1,
        "hc_lowrank": 8,
    },
    "reformer": {
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (16, 16),
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "hash_seed": 0,  # otherwise the buckets of a token are drawn anew by every forward
    },
    "xlm": {"causal": True},
    "xlnet": {"attn_type": "uni"},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zaya": {
        "num_experts_per_tok": 1,
        "layer_types": ["hybrid_sliding", "hybrid"] * 2,
        "router_hidden_size": 16,
    },
}

# These classes take a part of the configuration that their type stands for.
PARTS: dict[str, str] = {"musicgen": "decoder", "musicgen_melody": "decoder"}

CANNOT: dict[str, str] = {
    "gemma3n": "its picture part needs the optional package timm",
    "gemma4_assistant": "needs the keys and values of another model",
    "gemma4_unified_assistant": "needs the keys and values of another model",
}

IN_BLOCK = re.compile(r"(?:.*?\.)?\d+\.")
EXPERTS = r"(?<!shared_)experts?\.\d|router|gate$"
NO_OUTPUT = re.compile(EXPERTS + r"|([qkvrg]|kv|qkv|gate|in)_proj$|per_layer|adapter")
NO_FEED_FORWARD = re.compile(
    NO_OUTPUT.pattern + r"|attn|attention|mamba|conv|temporal|laurel|(out|o)_proj$"
)


class CannotBuildError(Exception):
    """There is no tiny model of this class; the message is the reason, in a few words."""


@dataclass(frozen=True)
class TinyModel:
    """A tiny random model and the projections to edit.

    Attributes
    ----------
    model
        In evaluation mode, in float32, without gradients.
    edit_modules
        Names, as ``model.named_modules()`` gives them, of one Linear or Conv1D in each of two
        blocks, the earlier first: the projections down of the last dense feed-forward parts or
        shared experts. Of a class without two, the output projections of its last mixers.
    """

    model: Model
    edit_modules: tuple[str, ...]


def build(model_type: str) -> TinyModel:
    """Build the tiny model of a type, the same at every call.

    Parameters
    ----------
    model_type
        One of ``MODEL_TYPES``.

    Raises
    ------
    CannotBuildError
        If the class cannot be tiny, does not run on text alone or has nothing to edit.
    """
    config_class = CONFIG_MAPPING[model_type]
    if model_type in CANNOT:
        raise CannotBuildError(CANNOT[model_type])
    try:
        config = AutoConfig.for_model(model_type, **_settings(config_class()))
        model = _random_model(config, PARTS.get(model_type))
        return TinyModel(model, _edit_modules(model))
    except CannotBuildError:
        raise
    except Exception as error:  # of whatever kind: a class may fail at anything
        first_line = str(error).strip().partition("\n")[0]
        raise CannotBuildError(f"{type(error).__name__}: {first_line[:120]}") from error


def _settings(default: Config) -> dict[str, Any]:
    """The keyword arguments of a tiny configuration, from the one with the default sizes."""
    values = {f.name: vars(default).get(f.name) for f in fields(default)}
    n_blocks = vars(default).get("num_hidden_layers")
    settings = {}
    for name, value in values.items():
        if isinstance(value, Config):
            settings[name] = _settings(value)
        elif name in SIZES:
            settings[name] = SIZES[name]
        elif isinstance(value, list | tuple) and len(value) == n_blocks != BLOCKS:
            settings |= _per_block(name, value)
    for name in IMPLIED.keys() & values.keys():
        settings |= IMPLIED[name]
    return settings | EXCEPTIONS.get(default.model_type, {})


def _per_block(name: str, values: list[Any] | tuple[Any, ...]) -> dict[str, list[Any]]:
    """A setting with one value per block, shortened so that every kind of block is there.

    Kinds of attention alternate and kinds of feed-forward come in halves, so that the four
    blocks have all pairs of two kinds.
    """
    kinds = list(dict.fromkeys(values))
    if len(kinds) == 1:  # the configuration fills it in
        return {}
    order = (0, 0, -1, -1) if name == "mlp_layer_types" else range(BLOCKS)
    return {name: [kinds[i % len(kinds)] for i in order]}


@torch.no_grad()
def _random_model(config: Config, part: str | None) -> Model:
    """The model of a configuration, or of a part of it, with weights large enough to matter."""

    def make() -> Model:
        if part is None:
            return AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, dtype=torch.float32
            )
        model_class = AutoModelForCausalLM._model_mapping[type(config)]
        return model_class._from_config(getattr(config, part), dtype=torch.float32)

    with torch.device("meta"):  # no memory is taken if a size was missed
        n_bytes = sum(p.nbytes for p in make().parameters())
    if n_bytes > MAX_BYTES:
        raise CannotBuildError(f"too large: {n_bytes / 1e6:.0f} MB")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = make().eval().requires_grad_(False)
    # At their initial size, blocks hardly change the logits and an error in one would not show.
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.copy_(SCALE * torch.randn(parameter.shape, generator=generator))
    return model


@torch.no_grad()
def _edit_modules(model: Model) -> tuple[str, ...]:
    """The projections to edit, found in a forward pass that also shows whether the model runs."""
    ran: dict[str, tuple[int, int]] = {}

    def record(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor):
                ran.pop(name, None)  # the place in the order is that of the last call
                ran[name] = (inputs[0].shape[-1], output.shape[-1])

        return hook

    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and IN_BLOCK.match(name)
    }
    hooks = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    token_ids = 3 + 7 * torch.arange(1, TOKENS + 1)[None] % (VOCABULARY - 6)
    logits = model(input_ids=token_ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    if logits.shape != (1, TOKENS, VOCABULARY):
        raise CannotBuildError(f"logits of shape {tuple(logits.shape)}")
    if not logits.isfinite().all() or logits.std() < 1e-2:
        raise CannotBuildError(f"logits with a spread of {logits.std():.1g}")

    feed_forward: dict[str, str] = {}
    output: dict[str, str] = {}
    for name, (n_in, n_out) in ran.items():
        block = IN_BLOCK.match(name).group()
        if n_out == WIDTH and not NO_OUTPUT.search(name):
            output[block] = name
            if n_in != WIDTH and not NO_FEED_FORWARD.search(name):
                feed_forward[block] = name
    for candidates in (feed_forward, output):
        # Two blocks may share one weight, and two edits must not meet.
        names = {modules[name].weight.data_ptr(): name for name in candidates.values()}
        if len(names) >= 2:
            return tuple(sorted(names.values(), key=list(ran).index)[-2:])
    raise CannotBuildError("no two blocks with a Linear that projects down or out")
