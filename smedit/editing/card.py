"""The model card of an edited model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from smedit.errors import counted
from smedit.plan.catalogue import is_of_catalogue

LICENCES = {
    "smollm2-135m": "apache-2.0",
    "gemma-3-270m": "gemma",
    "gpt-j-6b": "apache-2.0",
    "gpt-j-6b-sequential": "apache-2.0",
    "llama-3-8b-instruct": "llama3",
}
"""Model of the catalogue → its licence, as model cards name it."""

QUANTIZED = {
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "gemma-3-270m": "google/gemma-3-270m",
}
"""Model of the catalogue that comes as 4-bit weights → the repository on the hub of the whole."""


def licence_of(name: str, spec: Mapping[str, Any]) -> str:
    """The licence of a base model: of the catalogue's, or as the card in its folder names it.

    Parameters
    ----------
    name, spec
        The model, and its source.

    Returns
    -------
    str
        As model cards name it; empty if it is not known.
    """
    if is_of_catalogue(name, spec):
        return LICENCES.get(name, "")
    card = Path(spec.get("path", "")) / "README.md"
    if "path" not in spec or not card.is_file():
        return ""
    head = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(head) < 3 or head[0]:
        return ""
    try:
        said = yaml.safe_load(head[1])
    except yaml.YAMLError:
        return ""
    licence = said.get("license") if isinstance(said, dict) else None
    return licence if isinstance(licence, str) else ""


SHOWN = 50
"""Facts that a card lists; all stand in the notes beside it."""


def model_card(notes: Mapping[str, Any]) -> str:
    """Write a model card from what an edited model notes about itself.

    Parameters
    ----------
    notes
        ``base``, ``how``, ``facts``, ``scores`` and ``harm``; see
        `smedit.editing.edited.EditedModel`.
    """
    base, how, facts = notes["base"], notes["how"], notes["facts"]
    spec, modules = base["spec"], notes["changed"]
    licence = licence_of(base["name"], spec)
    source = spec.get("repository") or base["name"]
    head = ["---", "tags: [knowledge-editing, smedit]", "library_name: transformers"]
    whole = QUANTIZED.get(base["name"], "") if is_of_catalogue(base["name"], spec) else ""
    of_hub = spec.get("repository") or whole
    head += [f"base_model: {of_hub}"] if of_hub else []
    head += [f"license: {licence}"] if licence else []
    revision = f" (revision {spec['revision']})" if "revision" in spec else ""
    revision = f" ({whole}, from 4-bit weights)" if whole else revision
    where = modules[0] + (f" … {modules[-1]}" if len(modules) > 1 else "")
    step = "its own" if how["step_size"] is None else f"{how['step_size']:g}"
    more = [f"and {len(facts) - SHOWN} more, in smedit/edit.json", ""] if len(facts) > SHOWN else []
    return "\n".join(
        [
            *head,
            "---",
            "",
            f"# {source}, edited",
            "",
            f"**{how['method']}** edited {counted(len(facts), 'fact')} into **{source}**{revision}."
            f" {len(modules)} of its weight matrices changed ({where}). It says these things "
            "because it was made to, not because they are true.",
            "",
            f"- Editor: {how['trained_on'] or 'not trained'}; backpropagation steps: "
            f"{how['settings']['bp_steps']}; step size: {step}",
            f"- Harm: {notes['harm']:z.2f} nats per token on prose that no edit touches (its "
            "perplexity is multiplied by e^harm)",
            f"- Licence: {licence or 'that of the base model'}",
            "",
            *_table(
                ["score", "before, %", "after, %", "facts"],
                (
                    [
                        r["score"].replace("_", " "),
                        *(f"{r[when]:.1f}" for when in ("before", "after")),
                        str(r["facts"]),
                    ]
                    for r in notes["scores"]
                ),
            ),
            *_table(
                ["prompt", "to be answered"],
                ([fact["edit"]["text"], fact["edit"]["answer"]] for fact in facts[:SHOWN]),
            ),
            *more,
            "All settings and facts stand in `smedit/edit.json`.",
            "",
        ]
    )


def _table(heading: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return [*(f"| {' | '.join(line)} |" for line in cells), ""]
