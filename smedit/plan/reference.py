"""The tables of ``config/README.md``, written from the declarations of the settings.

``python -m smedit.plan.reference`` writes them between the two marks of that file.
"""

from __future__ import annotations

from pathlib import Path

from smedit.plan.settings import Declared, Machine, Measurement, Settings, declared

BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"

PARTS = {
    "What trains: the settings of a run": Settings,
    "What is measured of it": Measurement,
    "Where it is computed (at the top only)": Machine,
}
"""Heading → record."""

LISTED = {"model": "models", "dataset": "datasets", "seed": "seeds", "method": "methods"}
"""Setting → the key that lists its values."""


def tables() -> str:
    """All settings as tables in Markdown."""
    parts = []
    for heading, record in PARTS.items():
        rows = [_row(said) for said in declared(record).values()]
        head = "| key | meaning | default | values |\n| --- | --- | --- | --- |"
        parts.append("\n".join([f"### {heading}", head, *rows]))
    return "\n\n".join(parts)


def _row(said: Declared) -> str:
    key = f"`{said.name}`" + (f" (listed as `{LISTED[said.name]}`)" if said.name in LISTED else "")
    default = "" if said.default is None else f"`{_shown(said.default)}`"
    default = "; ".join(filter(None, [default, said.source]))
    values = ", ".join(f"`{choice}`" for choice in said.choices)
    bounds = [
        f"{sign} {_shown(bound)}"
        for sign, bound in (("≥", said.least), (">", said.above), ("≤", said.most))
        if bound is not None
    ]
    unit = [said.unit] if said.unit else []
    return f"| {key} | {said.meaning} | {default} | {values or ', '.join(bounds + unit)} |"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def written(text: str) -> str:
    """A text with the tables between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path("config/README.md")
    readme.write_text(written(readme.read_text(encoding="utf-8")), encoding="utf-8")
