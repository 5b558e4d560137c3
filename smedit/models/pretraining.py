"""A tiny language model that learns the built-in facts in a few seconds, with its own tokenizer.

For tests and the smoke run: no download, and it knows what it is asked. The tokenizer alone also
serves the models with random weights that are only timed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from smedit.data.readers import load_requests

VOCABULARY = 1024
"""Tokens of the tokenizer trained here."""

REQUESTS = 32
"""Edit requests of each split of each dataset that the model learns: what it can in seconds."""

BATCH_SIZE = 32
"""Prompts per training step."""

LEARNING_RATE = 5e-3
"""AdamW's at the first step; falls linearly to zero."""

END_OF_TEXT = "<|endoftext|>"

log = logging.getLogger("smedit")


def builtin_facts(seed: int, requests: int | None = None) -> list[tuple[str, str]]:
    """Built-in prompts with their true answers, in a fixed order, none twice.

    Parameters
    ----------
    seed : int
        Seed of the splits; a run with this seed finds its first edit requests among the facts.
    requests : int, optional
        How many edit requests of each split of each dataset; all of them by default.

    Returns
    -------
    list of (prompt, answer)
        Edit, paraphrase and locality prompts of both datasets.
    """
    facts: dict[tuple[str, str], None] = {}
    specs = {
        "zsre": {"format": "zsre", "source": "builtin", "target": "answers"},
        "counterfact": {"format": "counterfact", "source": "builtin"},
    }
    for name, spec in specs.items():
        splits = load_requests(name, spec, seed)
        for part in (splits.train, splits.tune, splits.eval):
            for request in part[:requests]:
                for prompt in (request.edit, *request.paraphrases):
                    facts[prompt.text, str(request.true_answer)] = None
                for prompt in request.locality:
                    facts[prompt.text, prompt.answer] = None
    return list(facts)


def train_tokenizer(facts: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; it adds no special tokens to a prompt.

    Parameters
    ----------
    facts : sequence of (prompt, answer)
        What to learn the merges from.

    Returns
    -------
    PreTrainedTokenizerFast
        At most `VOCABULARY` tokens; token 0 ends a text and pads.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{prompt} {answer}" for prompt, answer in facts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def pretrain(
    architecture: Path,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[tuple[str, str]],
    steps: int,
    seed: int,
) -> PreTrainedModel:
    """Train a model from random weights to answer prompts, on one core.

    Parameters
    ----------
    architecture : Path
        A small model's config.json; its vocabulary holds every token of the tokenizer.
    tokenizer : PreTrainedTokenizerFast
        From `train_tokenizer`.
    facts : sequence of (prompt, answer)
        What to learn. The loss is the cross-entropy of the answers and of the end of the text.
    steps : int
        Steps of AdamW, each on `BATCH_SIZE` prompts.
    seed : int
        For the first weights and the order of the prompts; the same seed gives the same weights.

    Returns
    -------
    PreTrainedModel
        float32, on the CPU.
    """
    threads = torch.get_num_threads()
    # Sums are taken in another order with another number of threads: one gives one result.
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = AutoConfig.from_pretrained(architecture, trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            ).train()
            batches = _batches([_encode(tokenizer, *fact) for fact in facts])
            _train(model, batches, steps)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _train(
    model: PreTrainedModel, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], steps: int
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for step in range(1, steps + 1):
        ids, labels = next(batches)
        # Padding stands behind the answer, so causal attention never sees it.
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step == 1 or step % 100 == 0 or step == steps:
            log.info("pretraining: step %d of %d, loss %.3f", step, steps, loss.item())


def _encode(
    tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    before = tokenizer(prompt).input_ids
    after = tokenizer(f" {answer}{END_OF_TEXT}").input_ids
    return torch.tensor(before + after), torch.tensor([-100] * len(before) + after)


def _batches(
    encoded: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        order = torch.randperm(len(encoded)).tolist()
        for start in range(0, len(order), BATCH_SIZE):
            ids, labels = zip(*(encoded[i] for i in order[start : start + BATCH_SIZE]), strict=True)
            yield (
                pad_sequence(list(ids), batch_first=True),
                pad_sequence(list(labels), batch_first=True, padding_value=-100),
            )
