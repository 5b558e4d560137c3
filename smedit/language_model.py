"""A language model as the editors see it: logits at answer tokens, with or without shifts.

The model is never changed. A shift is a value that `torch.func.functional_call` puts in the place
of a weight, so autograd gives its gradient and nothing has to be undone.

One mechanism serves every transformers architecture and copies no forward code: blocks below the
first edited one pass their input through, a hook hands the frozen states to the first edited
block, and a hook on the output embedding keeps the answer positions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from smedit.batches import Chunk, TokenizedPrompt, token_batch
from smedit.errors import UserError
from smedit.frozen_states import Frozen, FrozenStates

Shifts = Mapping[str, torch.Tensor]
"""Edit module name → change of its weight, written (d_in, d_out), float32."""


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

    Raises
    ------
    UserError
        If an edit module is missing, is of another type, or lies outside the blocks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        edit_modules: Sequence[str],
        name: str = "model",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.edit_modules = {n: _edit_module(model, n, name) for n in edit_modules}
        self.blocks, self.first_block = _first_edited_block(model, edit_modules, name)
        self._blocks_return_tuples = self._probe()
        self.states = FrozenStates(self.owner)

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

    def shape(self, name: str) -> tuple[int, int]:
        """(d_in, d_out) of an edit module."""
        return weight_shape(self.edit_modules[name])

    # --- the frozen part -------------------------------------------------------------------------

    @torch.no_grad()
    def freeze(self, sequences: Sequence[TokenizedPrompt]) -> int:
        """Compute the frozen states of the sequences that have none yet.

        Returns
        -------
        int
            How many sequences had to be computed.
        """
        by_inputs = {s.forward_key: s for s in sequences}
        missing = [s for s in by_inputs.values() if s not in self.states]
        if not missing:
            return 0
        for chunk in token_batch(missing, minibatch=len(missing)).chunks(self.device):
            entering: list[torch.Tensor] = []
            final: list[torch.Tensor] = []

            def keep_entering(
                _: nn.Module, args: tuple, kwargs: dict, kept: list[torch.Tensor] = entering
            ) -> None:
                kept.append(args[0] if args else kwargs["hidden_states"])

            def keep_final(hidden: torch.Tensor, kept: list[torch.Tensor] = final) -> torch.Tensor:
                kept.append(hidden)
                return hidden[:0]  # the logits are not wanted

            with ExitStack() as stack:
                block = self.blocks[self.first_block]
                handle = block.register_forward_pre_hook(keep_entering, with_kwargs=True)
                stack.callback(handle.remove)
                stack.enter_context(self._answers_only(chunk, keep_final))
                self.model(input_ids=chunk.input_ids, use_cache=False)
            finals = final[0].cpu().split([len(s.answer_ids) for s in chunk.sequences])
            for row, sequence in enumerate(chunk.sequences):
                states = entering[0][row, : len(sequence.input_ids)].cpu().clone()
                self.states[sequence] = Frozen(states, finals[row].clone())
        return len(missing)

    @torch.no_grad()
    def unedited_logits(self, chunk: Chunk) -> torch.Tensor:
        """Logits (n, vocabulary) of the unedited model at the chunk's answer tokens.

        Only the output embedding runs; the states below it are the frozen ones.
        """
        self.freeze(chunk.sequences)
        final = torch.cat([self.states[s].final for s in chunk.sequences]).to(self.device)
        with self._passing_through(len(self.blocks)), self._answers_only(chunk, lambda _: final):
            return self.model(input_ids=chunk.input_ids, use_cache=False).logits

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
            Called with (name, input, output) of each edit module.
        """
        self.freeze(chunk.sequences)
        weights = {
            f"{name}.weight": self.edited_weight(name, shift) for name, shift in shifts.items()
        }
        with ExitStack() as stack:
            stack.enter_context(self._passing_through(self.first_block))
            stack.enter_context(self._entering(chunk))
            stack.enter_context(self._answers_only(chunk))
            for name, module in self.edit_modules.items() if module_hook else ():

                def hook(_: nn.Module, args: tuple, output: torch.Tensor, name: str = name) -> None:
                    module_hook(name, args[0], output)

                stack.callback(module.register_forward_hook(hook).remove)
            inputs = {"input_ids": chunk.input_ids, "use_cache": False}
            return torch.func.functional_call(self.model, weights, args=(), kwargs=inputs).logits

    def edited_weight(self, name: str, shift: torch.Tensor) -> torch.Tensor:
        """W₀ + shift in the module's own layout and type; the sum is taken in float32."""
        module = self.edit_modules[name]
        change = shift if isinstance(module, Conv1D) else shift.T
        return (module.weight.float() + change).to(module.weight.dtype)

    # --- hooks -----------------------------------------------------------------------------------

    def _probe(self) -> bool:
        """Whether a block returns a tuple (GPT-J does) or the hidden states alone."""
        outputs: list[Any] = []
        hook = self.blocks[0].register_forward_hook(lambda _, __, output: outputs.append(output))
        with torch.no_grad():
            self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device))
        hook.remove()
        return isinstance(outputs[0], tuple)

    @contextmanager
    def _passing_through(self, n_blocks: int) -> Iterator[None]:
        def pass_through(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
            return (hidden_states, None) if self._blocks_return_tuples else hidden_states

        blocks = self.blocks[:n_blocks]
        for block in blocks:
            block.forward = pass_through
        try:
            yield
        finally:
            for block in blocks:
                del block.forward

    @contextmanager
    def _entering(self, chunk: Chunk) -> Iterator[None]:
        states = nn.utils.rnn.pad_sequence(
            [self.states[s].entering for s in chunk.sequences], batch_first=True
        ).to(self.device)

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
    def _answers_only(
        self, chunk: Chunk, see: Callable[[torch.Tensor], torch.Tensor] = lambda hidden: hidden
    ) -> Iterator[None]:
        """Let only the answer positions reach the output embedding, passed through ``see``."""

        def pick(_: nn.Module, args: tuple) -> torch.Tensor:
            return see(args[0][chunk.rows, chunk.positions])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            handle.remove()


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
    if not isinstance(module, nn.Linear | Conv1D):
        kind = type(module).__name__
        raise UserError(f"edit module {name!r} of {model_name} is a {kind}, not Linear or Conv1D")
    return module


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
