"""A language model as the editors see it: logits at answer tokens, with or without shifts.

The model is never changed. A shift is a value that `torch.func.functional_call` puts in the place
of a weight, so autograd gives its gradient and nothing has to be undone.

One mechanism serves every transformers architecture and copies no forward code: blocks below the
first edited one pass their input through, a hook hands the frozen states to the first edited
block, a cache ends the pass over the prompts early, and a hook on the output embedding keeps the
answer positions only. `Execution` turns each of these off, and `smedit.engine.self_test` finds out
which of them a model allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smedit.engine import self_test
from smedit.engine.batches import Chunk, TokenBatch, token_batch
from smedit.engine.execution import Execution
from smedit.engine.frozen_states import Frozen, FrozenStates
from smedit.engine.prompt_cache import PromptCache, PromptDoneError
from smedit.engine.tokenization import TokenizedPrompt, Tokenizer
from smedit.errors import UserError, shown

Shifts = Mapping[str, torch.Tensor]
"""Edit module name → change of its weight, written (d_in, d_out), float32."""

ALL = slice(None)

WEIGHT_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types of a weight that a shift can be added to."""

CONTEXT_NAMES = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_length"),
    *("max_seq_len", "seq_length", "context_length", "max_target_positions"),
)
"""What configurations call the length of the longest sequence."""


class LanguageModel:
    """A frozen language model with named edit modules.

    Parameters
    ----------
    model
        A transformers causal language model; its parameters are frozen.
    tokenizer
        Its tokenizer.
    edit_modules
        Names of `Linear` or `Conv1D` modules inside the model's blocks.
    name
        How messages and `owner` call the model.
    execution
        How forward passes are carried out; by default the fastest way that gives this model's own
        numbers, which `smedit.engine.self_test.choose` finds by trying.
    fastest
        The first way that is tried.

    Raises
    ------
    UserError
        If an edit module is missing, is of another type, cannot be shifted or lies outside the
        blocks; or if no way gives the model's own numbers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        edit_modules: Sequence[str],
        name: str = "model",
        execution: Execution | None = None,
        fastest: str = "fast",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.edit_modules = {n: _edit_module(model, n, name) for n in edit_modules}
        _check_own_weights(model, self.edit_modules, name)
        self.blocks, self.first_block = _first_edited_block(model, edit_modules, name)
        self.execution = execution or Execution()
        self.states = FrozenStates(self.owner)
        self.tested = None if execution else self_test.choose(self, fastest)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights; shifts and hypernetworks are float32 whatever it is."""
        return next(iter(self.edit_modules.values())).weight.dtype

    @property
    def owner(self) -> str:
        """What frozen states of this model are labelled with."""
        return f"{self.name}, {self.dtype}, block {self.first_block}"

    @property
    def context(self) -> int | None:
        """Tokens of the longest sequence that the model takes; None where it does not say."""
        config = self.model.config.get_text_config(decoder=True)
        said = (getattr(config, name, None) for name in CONTEXT_NAMES)
        return next((length for length in said if isinstance(length, int) and length > 0), None)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        weight = getattr(self.model.get_input_embeddings(), "weight", None)
        if weight is not None:
            return weight.shape[0]
        return self.model.config.get_text_config(decoder=True).vocab_size

    def shape(self, name: str) -> tuple[int, int]:
        """(d_in, d_out) of an edit module."""
        return weight_shape(self.edit_modules[name])

    def chunks(self, batch: TokenBatch) -> Iterator[Chunk]:
        """Cut a batch into the physical batches that the forward passes take.

        Raises
        ------
        UserError
            If a sequence is longer than the model's context.
        """
        longest = batch.sequences[0]
        length = len(longest.input_ids)
        if self.context is not None and length > self.context:
            raise UserError(
                f"{self.name}: the prompt {shown(longest.text)} with its answer has {length} "
                f"tokens, more than the model's context of {self.context}; shorten or remove the "
                "row"
            )
        return batch.chunks(self.device, self.execution)

    # --- the frozen part -------------------------------------------------------------------------

    @torch.no_grad()
    def freeze(self, sequences: Sequence[TokenizedPrompt]) -> int:
        """Compute the frozen states of the sequences that have none yet.

        Where the model does not allow to keep them, only the sequences are checked.

        Returns
        -------
        int
            How many sequences had to be computed.

        Raises
        ------
        UserError
            If a sequence is longer than the model's context, or of another model's tokenizer.
        """
        by_inputs = {s.forward_key: s for s in sequences}
        missing = [s for s in by_inputs.values() if s not in self.states]
        if not missing:
            return 0
        self.check_tokens(missing)
        if not self.execution.frozen_once:
            return 0
        for chunk in self.chunks(token_batch(missing, minibatch=len(missing))):
            entering: list[torch.Tensor] = []
            final: list[torch.Tensor] = []

            def keep_entering(
                _: nn.Module, args: tuple, kwargs: dict, kept: list[torch.Tensor] = entering
            ) -> None:
                kept.append(args[0] if args else kwargs["hidden_states"])

            def keep_final(
                hidden: torch.Tensor,
                kept: list[torch.Tensor] = final,
                at_answers: tuple[torch.Tensor, torch.Tensor] = (chunk.rows, chunk.positions),
            ) -> torch.Tensor:
                kept.append(hidden[at_answers])
                return hidden[:0]  # the logits are not wanted

            with ExitStack() as stack:
                block = self.blocks[self.first_block]
                handle = block.register_forward_pre_hook(keep_entering, with_kwargs=True)
                stack.callback(handle.remove)
                stack.enter_context(self._before_output(keep_final))
                self._run(chunk, {})
            finals = final[0].cpu().split([len(s.answer_ids) for s in chunk.sequences])
            for row, sequence in enumerate(chunk.sequences):
                states = entering[0][row, -len(sequence.input_ids) :].cpu().clone()
                self.states[sequence] = Frozen(states, finals[row].clone())
        return len(missing)

    def check_tokens(self, sequences: Sequence[TokenizedPrompt]) -> None:
        """Check that the model knows all tokens; a `UserError` if the tokenizer is another's."""
        largest = max(max(*s.input_ids, *s.answer_ids) for s in sequences)
        if largest >= self.vocabulary:
            raise UserError(
                f"{self.name}: its tokenizer gives token {largest}, its vocabulary ends at "
                f"{self.vocabulary - 1}; use the tokenizer that belongs to the model"
            )

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Drop at the end what is frozen meanwhile: for sequences that do not come again."""
        kept, self.states = self.states, FrozenStates(self.owner)
        try:
            yield
        finally:
            self.states = kept

    @torch.no_grad()
    def unedited_logits(self, chunk: Chunk) -> torch.Tensor:
        """Logits (n, vocabulary) of the unedited model at the chunk's answer tokens.

        Where the frozen part runs once, only the output embedding runs now.
        """
        if not self.execution.frozen_once:
            return self.logits(chunk, {})
        self.freeze(chunk.sequences)
        final = torch.cat([self.states[s].final for s in chunk.sequences]).to(self.device)
        with self._passing_through(len(self.blocks)), self._before_output(lambda _: final):
            return self.model(input_ids=chunk.input_ids[:1, :1], use_cache=False).logits

    # --- the edited part -------------------------------------------------------------------------

    def logits(
        self,
        chunk: Chunk,
        shifts: Shifts,
        module_hook: Callable[[str, torch.Tensor, torch.Tensor], None] | None = None,
    ) -> torch.Tensor:
        """Logits (n, vocabulary) at the chunk's answer tokens, on weights W₀ + shifts.

        Parameters
        ----------
        chunk
            The sequences to run.
        shifts
            May be empty, and may require gradients.
        module_hook
            Called with (name, input, output) of each edit module; the last columns of both are
            the chunk's last columns. Its user wants gradients at answer tokens: no gradient flows
            through columns of prompt tokens alone, which no answer token comes before.

        Raises
        ------
        UserError
            With ``module_hook``, if an edit module does not see every token once.
        """
        weights = {
            f"{name}.weight": self.edited_weight(name, shift) for name, shift in shifts.items()
        }
        n_columns = chunk.input_ids.shape[1]
        cut = n_columns - chunk.n_answer_columns if self.execution.prompts_apart else 0
        cache = PromptCache(len(self.blocks)) if cut else None
        at_answers = (chunk.rows, chunk.positions)
        with ExitStack() as stack:
            if self.execution.frozen_once:
                self.freeze(chunk.sequences)
                stack.enter_context(self._passing_through(self.first_block))
            if cache is not None:
                through_prompts = torch.is_grad_enabled() and module_hook is None
                with torch.set_grad_enabled(through_prompts), suppress(PromptDoneError):
                    self._run_stored(chunk, weights, slice(0, cut), cache)
                if not cache.get_seq_length():
                    raise UserError(f"{self.name}: its last block keeps no keys and values")
            if module_hook is not None:
                n_tokens = len(chunk.sequences) * (n_columns - cut)
                stack.enter_context(self._seeing_modules(module_hook, n_tokens))
            if self.execution.answers_only:
                stack.enter_context(self._before_output(lambda hidden: hidden[at_answers]))
            logits = self._run_stored(chunk, weights, slice(cut, None), cache)
            return logits if self.execution.answers_only else logits[at_answers]

    def _run_stored(
        self,
        chunk: Chunk,
        weights: Mapping[str, torch.Tensor],
        columns: slice = ALL,
        cache: PromptCache | None = None,
    ) -> torch.Tensor:
        """Run some columns, from the frozen states where there are such."""
        if not self.execution.frozen_once:
            return self._run(chunk, weights, columns, cache)
        with self._entering(chunk, columns):
            return self._run(chunk, weights, columns, cache)

    def _run(
        self,
        chunk: Chunk,
        weights: Mapping[str, torch.Tensor],
        columns: slice = ALL,
        cache: PromptCache | None = None,
    ) -> torch.Tensor:
        """One forward pass over some columns; a cache stands for the columns before them."""
        inputs = {"input_ids": chunk.input_ids[:, columns], "use_cache": cache is not None}
        if self.execution.padded:
            inputs["attention_mask"] = chunk.mask[:, : columns.stop]
            inputs["position_ids"] = (chunk.mask.cumsum(1) - 1).clamp(min=0)[:, columns]
        if cache is not None:
            inputs["past_key_values"] = cache
        taken = {name: value for name, value in inputs.items() if self.takes(name)}
        return torch.func.functional_call(self.model, weights, args=(), kwargs=taken).logits

    def takes(self, argument: str) -> bool:
        """Whether the model's forward pass has an argument of this name, or takes any."""
        return argument in self._arguments or "**" in self._arguments

    @cached_property
    def _arguments(self) -> set[str]:
        known = inspect.signature(self.model.forward).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
        return {*known, "**"} if takes_any else set(known)

    def edited_weight(self, name: str, shift: torch.Tensor) -> torch.Tensor:
        """W₀ + shift in the module's own layout and type; the sum is taken in float32."""
        module = self.edit_modules[name]
        change = shift if isinstance(module, Conv1D) else shift.T
        return (module.weight.float() + change).to(module.weight.dtype)

    @contextmanager
    def edited(self, shifts: Shifts) -> Iterator[None]:
        """Put W₀ + shifts in the model's place, for code that takes a whole model.

        Parameters are exchanged, not written to, and come back whatever happens.
        """
        with ExitStack() as stack:
            for name, shift in shifts.items():
                module = self.edit_modules[name]
                weight = nn.Parameter(self.edited_weight(name, shift), requires_grad=False)
                stack.callback(setattr, module, "weight", module.weight)
                module.weight = weight
            yield

    # --- hooks -----------------------------------------------------------------------------------

    @contextmanager
    def _seeing_modules(
        self, see: Callable[[str, torch.Tensor, torch.Tensor], None], n_tokens: int
    ) -> Iterator[None]:
        """Call ``see`` with the name, input and output of every edit module in the next pass."""
        seen: dict[str, int] = {}

        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
            name = names[module]
            if name in seen:
                raise UserError(f"{self.name}: edit module {name!r} runs twice in a pass")
            seen[name] = output.shape[:-1].numel()
            if seen[name] == n_tokens:
                see(name, args[0], output)
            return output.clone()  # the block may change its own in place

        names = {module: name for name, module in self.edit_modules.items()}
        with ExitStack() as stack:
            for module in names:
                stack.callback(module.register_forward_hook(hook).remove)
            yield
        for name in self.edit_modules:
            if seen.get(name) != n_tokens:
                raise UserError(
                    f"{self.name}: edit module {name!r} sees {seen.get(name, 0)} of {n_tokens} "
                    "tokens (an expert of a mixture?); choose a module that sees all"
                )

    @cached_property
    def _blocks_return_tuples(self) -> bool:
        """Whether a block returns a tuple (GPT-J does) or the hidden states alone."""

        def stop(_: nn.Module, __: tuple, output: Any) -> None:
            raise _Probed(isinstance(output, tuple))

        handle = self.blocks[0].register_forward_hook(stop)
        try:
            with torch.no_grad():
                self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device))
        except _Probed as probed:
            return probed.returns_tuple
        finally:
            handle.remove()
        raise AssertionError("the model runs without its first block")

    @contextmanager
    def _passing_through(self, n_blocks: int) -> Iterator[None]:
        as_tuple = self._blocks_return_tuples

        def pass_through(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
            return (hidden_states, None) if as_tuple else hidden_states

        blocks = self.blocks[:n_blocks]
        for block in blocks:
            block.forward = pass_through
        try:
            yield
        finally:
            for block in blocks:
                del block.forward

    @contextmanager
    def _entering(self, chunk: Chunk, columns: slice) -> Iterator[None]:
        """Hand the frozen states of some columns to the first edited block."""
        states = nn.utils.rnn.pad_sequence(
            [self.states[s].entering for s in chunk.sequences],
            batch_first=True,
            padding_side="left",
        )[:, columns].to(self.device)
        states = states.contiguous()  # some blocks view their input under another shape

        def enter(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if args:
                return (states, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": states}

        handle = self.blocks[self.first_block].register_forward_pre_hook(enter, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _before_output(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """Let the output embedding take ``change(last hidden states)``."""
        handle = self.model.get_output_embeddings().register_forward_pre_hook(
            lambda _, args: change(args[0])
        )
        try:
            yield
        finally:
            handle.remove()


class _Probed(Exception):  # noqa: N818 - a way out of a forward pass, not an error
    def __init__(self, returns_tuple: bool) -> None:
        self.returns_tuple = returns_tuple


def weight_shape(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a `Linear` or `Conv1D` module."""
    rows, columns = module.weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _edit_module(model: PreTrainedModel, name: str, model_name: str) -> nn.Module:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
        near = ", ".join(get_close_matches(name, linear)) or ", ".join(linear[:3])
        raise UserError(
            f"edit module {name!r}: {model_name} has no such module; nearest: {near}"
        ) from error
    kind = type(module).__name__
    if not isinstance(module, nn.Linear | Conv1D):
        raise UserError(f"edit module {name!r} of {model_name} is a {kind}, not Linear or Conv1D")
    weight = module.weight
    if weight.dtype not in WEIGHT_TYPES or type(weight) is not nn.Parameter:
        raise UserError(
            f"edit module {name!r} of {model_name} is a {kind} whose weight is quantized, packed "
            f"or computed ({type(weight).__name__}, {weight.dtype}); use the model's plain float32 "
            "or bfloat16 weights"
        )
    return module


def _check_own_weights(
    model: PreTrainedModel, modules: Mapping[str, nn.Module], model_name: str
) -> None:
    """A shift of a weight that stands in two places would change both."""
    places: dict[int, list[str]] = {}
    for parameter_name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(parameter_name.removesuffix(".weight"))
    for name, module in modules.items():
        others = [place for place in places[id(module.weight)] if place != name]
        if others:
            raise UserError(
                f"edit module {name!r} of {model_name} shares its weight with {others[0]!r}, which "
                "would change with it; choose another module"
            )


def _first_edited_block(
    model: PreTrainedModel, names: Sequence[str], model_name: str
) -> tuple[nn.ModuleList, int]:
    found: dict[str, list[int]] = {}
    for name in names:
        parts = name.split(".")
        for i in range(1, len(parts)):
            parent = ".".join(parts[:i])
            if isinstance(model.get_submodule(parent), nn.ModuleList):
                found.setdefault(parent, []).append(int(parts[i]))
                break
        else:
            raise UserError(f"edit module {name!r} lies outside the blocks of {model_name}")
    if len(found) != 1:
        raise UserError(f"edit modules of {model_name} lie in several stacks: {', '.join(found)}")
    parent, indices = next(iter(found.items()))
    return model.get_submodule(parent), min(indices)
