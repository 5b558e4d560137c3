"""A tokenizer that remembers: a job whose texts are all known loads no tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

from transformers import PreTrainedTokenizerBase


class KnownTokens:
    """Stands for a tokenizer, which is loaded only for a text that is not known yet.

    Loading a large vocabulary takes seconds, which short jobs would spend again and again.

    Parameters
    ----------
    load
        Loads the tokenizer.
    known
        What `as_json` gave.
    """

    def __init__(
        self,
        load: Callable[[], PreTrainedTokenizerBase],
        known: Mapping[str, Mapping[str, list[int]]] | None = None,
    ) -> None:
        self._load = load
        self._tokenizer: PreTrainedTokenizerBase | None = None
        known = known or {"prompts": {}, "answers": {}}
        self._ids = {kind: dict(texts) for kind, texts in known.items()}

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        """``input_ids`` of a text, as the tokenizer gives them."""
        ids = self._ids["prompts" if add_special_tokens else "answers"]
        if text not in ids:
            if self._tokenizer is None:
                self._tokenizer = self._load()
            ids[text] = self._tokenizer(text, add_special_tokens=add_special_tokens).input_ids
        return SimpleNamespace(input_ids=ids[text])

    def as_json(self) -> dict[str, dict[str, list[int]]]:
        """``prompts`` and ``answers`` (texts with and without special tokens) → token ids."""
        return self._ids
