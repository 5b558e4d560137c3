"""What a method is: a few choices on top of one engine. A new one is one file and one entry point.

Imports nothing heavy, so the workflow can read the methods before any job starts.

The paper's first version calls its method SMEdit and its inner loop MBPS; later versions call them
EMSEdit and MSBP.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from smedit.errors import UserError, nearest, shown

Locality = Literal["kl", "norm", "none"]
Training = Literal["in_batches", "in_sequence", "none"]

FINE_TUNING = "fine_tuning"
"""The shift rule that needs no hypernetwork; see `smedit.engine.fine_tuning`."""

IN_CONTEXT = "in_context"
"""The shift rule that changes no weight, but the prompts; see `smedit.engine.in_context`."""

IN_CONTEXT_RULE = "smedit.engine.in_context:in_context"
"""What it does."""

WITHOUT_NETWORK = (FINE_TUNING, IN_CONTEXT)

Rule = TypeVar("Rule", bound=Callable[..., Any])

BUILT_IN_RULES = "smedit.engine.shift_rules"
"""The module of the rules that a method names without one."""


@dataclass(frozen=True)
class Method:
    """The choices that make an editing method. Each is a setting that an experiment may change.

    Attributes
    ----------
    name
        As in the paper's tables.
    shift_rule
        How a hypernetwork's output becomes a shift: a function of `smedit.engine.shift_rules`;
        ``MODULE:FUNCTION`` for one that stands elsewhere; or, without a hypernetwork,
        ``fine_tuning`` (`smedit.engine.fine_tuning`) or ``in_context``
        (`smedit.engine.in_context`).
    bp_steps
        Backpropagation steps per edit. More than one is MBPS, but in fine-tuning, where they are
        the most gradient steps of a batch.
    locality
        What protects other knowledge in meta-training: ``kl``, ``norm``, or ``none``: the edit
        loss alone.
    rank, n_blocks
        Size of the hypernetwork as published (arXiv 2508.04012, appendix); with no blocks there is
        nothing to train, and keys and gradients are standardized only.
    training
        How it is prepared for editing batch after batch without undoing any. ``in_sequence``: on
        such a stream, with one hypernetwork per backpropagation step. ``in_batches``: as for batch
        editing, where every method that is trained at all is trained so. ``none``: it needs no
        training.
    back_depth
        Trained in sequence, its loss keeps so many of the latest batches.
    lr
        Its published step size, where it is not that of the paper.
    """

    name: str
    shift_rule: str
    bp_steps: int
    locality: Locality
    rank: int = 0
    n_blocks: int = 0
    training: Training = "in_batches"
    back_depth: int = 1
    lr: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("locality", Locality), ("training", Training)):
            value, known = getattr(self, name), get_args(allowed)
            if value not in known:
                raise UserError(f"{self.name}: {name} {shown(value)}{nearest(value, known)}")

    @property
    def fine_tunes(self) -> bool:
        """Whether it changes a weight itself, without a hypernetwork."""
        return self.shift_rule == FINE_TUNING

    @property
    def has_network(self) -> bool:
        """Whether it has a hypernetwork."""
        return self.shift_rule not in WITHOUT_NETWORK


def shift_rule(function: Rule) -> Rule:
    """Mark a function as a shift rule.

    It takes, for one edit module and the N answer tokens of an edit batch, keys (N, d_in),
    pseudo-keys (N, d_in), pseudo-gradients (N, d_out), the step size η and log λ (scalars), and
    gives Δ (d_in, d_out). Gradients flow back to all but the keys. It may stand in the file of
    the method that uses it.
    """
    function.is_shift_rule = True  # type: ignore[attr-defined]
    return function


@cache
def load_method(name: str) -> Method:
    """Find an installed method by name (entry points of the group ``smedit.methods``).

    Raises
    ------
    UserError
        If no installed package offers the name (the message names the nearest and lists all), or
        what it offers is no method of that name.
    """
    known = _installed()
    if name not in known:
        raise UserError(f"unknown method {shown(name)}{nearest(name, known)}")
    place = f"method {name!r} of {_package(known[name])} ({known[name].value})"
    try:
        method = known[name].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{place} cannot be loaded ({why}); mend it, or remove its package"
        ) from error
    if not isinstance(method, Method) or method.name != name:
        raise UserError(f"{place} is no Method whose name is {name!r}; correct it")
    return method


def known_methods() -> dict[str, Method]:
    """Name → method, of all that are installed."""
    return {name: load_method(name) for name in _installed()}


def _installed() -> dict[str, EntryPoint]:
    known: dict[str, EntryPoint] = {}
    for point in entry_points(group="smedit.methods"):
        other = known.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(
                f"two packages offer a method {point.name!r}: {_package(other)} ({other.value}) "
                f"and {_package(point)} ({point.value}); rename one, or pip uninstall its package"
            )
    return known


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"


@cache
def rule_checksum(rule: str) -> str:
    """SHA-256 of what a shift rule does, read without importing its module.

    That is its function, and the functions and constants of its module that it uses. Comments,
    docstrings and layout do not count.

    Raises
    ------
    UserError
        If there is no such module or function, or it uses another file of its package, whose
        changes this checksum would not see.
    """
    if rule == FINE_TUNING:
        return ""
    if rule == IN_CONTEXT:
        rule = IN_CONTEXT_RULE
    module, _, name = rule.rpartition(":")
    spec = find_spec(module or BUILT_IN_RULES)
    if spec is None or spec.origin is None:
        raise UserError(f"shift rule {shown(rule)}: there is no module {module!r}; correct it")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    known, elsewhere = _definitions(tree), _of_its_package(tree, module or BUILT_IN_RULES)
    functions = [key for key, node in known.items() if isinstance(node, ast.FunctionDef)]
    if name not in functions:
        raise UserError(f"unknown shift rule {shown(rule)}{nearest(name, functions)}")
    if rule != IN_CONTEXT_RULE and not _is_marked(known[name]):
        raise UserError(f"shift rule {shown(rule)} is not marked with @shift_rule; mark it")
    used, left = {}, [name]
    while left:
        node = known[left.pop()]
        used[id(node)] = _without_docstring(node)
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        left += [key for key in names & set(known) if id(known[key]) not in used]
        for key in sorted((names | {"*"}) & elsewhere):
            problem = f"uses {key!r} of another file; move it into the rule's"
            raise UserError(f"shift rule {shown(rule)} {problem}")
    return hashlib.sha256("\n".join(sorted(used.values())).encode()).hexdigest()


def _of_its_package(tree: ast.Module, module: str) -> set[str]:
    """Names that a module takes from other files of its package, if that is not the suite's own."""
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:  # all of the engine is in each result's checksum
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level or (node.module or "").partition(".")[0] == top:
                names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            own = [alias for alias in node.names if alias.name.partition(".")[0] == top]
            names |= {alias.asname or top for alias in own}
    return names


def _is_marked(function: ast.stmt) -> bool:
    marks = getattr(function, "decorator_list", [])
    return any(ast.unparse(mark).rpartition(".")[2] == "shift_rule" for mark in marks)


def _definitions(module: ast.Module) -> dict[str, ast.stmt]:
    """Name → the statement of a module that defines it."""
    found: dict[str, ast.stmt] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _without_docstring(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        node.body = node.body[1:]
    return ast.unparse(node)
