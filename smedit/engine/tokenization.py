"""A prompt and its answer → token ids, as they stand in the joint text.

A tokenizer may treat an answer on its own otherwise than an answer in its place: it may open every
text with a space of its own, or close every text with an end-of-text token. So what is asked for is
compared with the joint text, and cut out of that where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from smedit.errors import UserError, shown

MARK = "."
"""A text that no tokenizer joins with what follows it."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt followed by its answer without the answer's last token, teacher-forced.

    Attributes
    ----------
    input_ids
        Prompt tokens, then all answer tokens but the last.
    answer_ids
        All answer tokens. Answer token ``j`` is predicted at position
        ``len(input_ids) - len(answer_ids) + j``.
    text
        The prompt, for messages.
    """

    input_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    text: str = field(default="", compare=False, repr=False)

    @property
    def forward_key(self) -> tuple[tuple[int, ...], int]:
        """What a forward pass depends on: the input ids and the number of answer tokens."""
        return self.input_ids, len(self.answer_ids)


class Cut(NamedTuple):
    """Token ids of a prompt and of what follows it, and whether they are those of the joint text.

    They are not where the tokenizer would make one token of the prompt's end and the answer's
    beginning. Then each is tokenized on its own, as when a model continues the prompt.
    """

    prompt: list[int]
    answer: list[int]
    of_joint_text: bool


def tokenize(
    tokenizer: PreTrainedTokenizerBase | KnownTokens, text: str, answer: str, between: str = " "
) -> TokenizedPrompt:
    """Tokenize a prompt, with the special tokens that open a text, and ``between + answer``.

    Raises
    ------
    UserError
        If the prompt or the answer has no tokens, or the two cannot be told apart.
    """
    known = isinstance(tokenizer, KnownTokens)
    ids = (tokenizer.cut if known else partial(cut, tokenizer))(text, between + answer)
    prompt_ids, answer_ids = ids[:2]
    for part, found in (("prompt", prompt_ids), ("answer", answer_ids)):
        if not found:
            raise UserError(
                f"the {part} of {shown(text)} → {shown(answer)} has no tokens; remove the row"
            )
    return TokenizedPrompt((*prompt_ids, *answer_ids[:-1]), tuple(answer_ids), text)


def cut(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Cut:
    """Tokenize a prompt and what follows it.

    Raises
    ------
    UserError
        If the two cannot be told apart.
    """
    before, joint = (_without_end(tokenizer, text) for text in (prompt, prompt + answer))
    alone = tokenizer(answer, add_special_tokens=False).input_ids
    if before + alone == joint:
        return Cut(before, alone, True)
    if joint[: len(before)] == before:
        return Cut(before, joint[len(before) :], True)
    for apart in (alone, _following(tokenizer, answer)):
        if tokenizer.decode(before + apart) == tokenizer.decode(joint):
            return Cut(before, apart, False)
    raise UserError(
        f"the tokenizer runs the prompt {shown(prompt)} into the answer {shown(answer.strip())}, "
        "so that the answer's tokens cannot be told apart; remove the row or use another model"
    )


def _without_end(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text with the special tokens in front of it, without those behind it."""
    ids = list(tokenizer(text).input_ids)
    inner = list(tokenizer(text, add_special_tokens=False).input_ids)
    if not inner:  # special tokens alone say nothing
        return []
    starts = range(len(ids) - len(inner) + 1)
    start = next((i for i in starts if ids[i : i + len(inner)] == inner), None)
    return ids if start is None else ids[: start + len(inner)]


def _following(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that does not begin another one: behind a mark, and without the mark."""
    mark = list(tokenizer(MARK, add_special_tokens=False).input_ids)
    ids = list(tokenizer(MARK + text, add_special_tokens=False).input_ids)
    return ids[len(mark) :] if ids[: len(mark)] == mark else ids


class KnownTokens:
    """Stands for a tokenizer, which is loaded only for a text that is not known yet.

    Loading a large vocabulary takes seconds, which short jobs would spend again and again.

    Parameters
    ----------
    load
        Loads the tokenizer.
    known
        What `as_json` gave.

    Attributes
    ----------
    kept_apart
        How many of the texts cut so far do not have the tokens of the joint text; see `Cut`.
    """

    def __init__(
        self,
        load: Callable[[], PreTrainedTokenizerBase],
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._load = load
        self._tokenizer: PreTrainedTokenizerBase | None = None
        known = known or {"prompts": {}, "answers": {}}
        self._prompts: dict[str, list[int]] = dict(known["prompts"])
        self._answers = {prompt: dict(answers) for prompt, answers in known["answers"].items()}
        self.kept_apart = 0

    def cut(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of what follows it; see the function `cut`."""
        answers = self._answers.setdefault(prompt, {})
        if answer not in answers:
            ids = cut(self.whole, prompt, answer)
            self._prompts[prompt], answers[answer] = ids.prompt, ids.answer
            self.kept_apart += not ids.of_joint_text
        return self._prompts[prompt], answers[answer]

    @property
    def whole(self) -> PreTrainedTokenizerBase:
        """The tokenizer itself."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer

    def as_json(self) -> dict[str, dict[str, Any]]:
        """``prompts``: text → token ids; ``answers``: prompt → what follows it → token ids."""
        return {"prompts": self._prompts, "answers": self._answers}


Tokenizer = PreTrainedTokenizerBase | KnownTokens
