"""Facts of one split that ask for two answers to one prompt.

The facts of a batch or a stream are edited together. If one edits the prompt that another holds for
unchanged, or to another answer, then not both can be right afterwards.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from smedit.data.facts import EditRequest, Prompt, Tally, text_key

EDITED_BEFORE = "an earlier row edits the prompt to another answer"
EDITED_LOCALITY = "a row edits it to another answer"


def resolve(
    split: str, requests: Sequence[EditRequest], leave_out: bool
) -> tuple[list[EditRequest], list[Tally]]:
    """Count the contradictions of a split, and leave them out if asked to.

    Prompts and answers are compared in any case, spacing and encoding. A batch or a stream is a
    part of a split, so it holds some of these contradictions and no others.

    Parameters
    ----------
    split : str
        Name of the split.
    requests : sequence of EditRequest
        Its requests, in file order.
    leave_out : bool
        Whether to leave out the rows and the locality prompts that are counted. Of a prompt that is
        edited to several answers, the first row stays.

    Returns
    -------
    list of EditRequest, list of Tally
        What is left, and the counts; no count is 0.
    """
    first: dict[str, str] = {}
    again = [
        first.setdefault(text_key(r.edit.text), text_key(r.edit.answer)) != text_key(r.edit.answer)
        for r in requests
    ]
    kept = [r for r, is_again in zip(requests, again, strict=True) if not (leave_out and is_again)]
    edited: dict[str, set[str]] = defaultdict(set)
    for request in kept:
        edited[text_key(request.edit.text)].add(text_key(request.edit.answer))

    def contradicted(prompt: Prompt) -> bool:
        return bool(edited.get(text_key(prompt.text), set()) - {text_key(prompt.answer)})

    locality = [prompt for request in kept for prompt in request.locality if contradicted(prompt)]
    tallies = []
    if any(again):
        prompt = requests[again.index(True)].edit
        tallies.append(Tally(split, EDITED_BEFORE, rows=sum(again), first=_named(prompt)))
    if locality:
        named = _named(locality[0])
        tallies.append(Tally(split, EDITED_LOCALITY, prompts=len(locality), first=named))
    if leave_out and locality:
        kept = [
            replace(request, locality=tuple(p for p in request.locality if not contradicted(p)))
            for request in kept
        ]
    return kept, tallies


def _named(prompt: Prompt) -> str:
    return f"{prompt.text} → {prompt.answer}"
