"""What the paper's authors published, to stand beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from smedit.store.files import suite_path

PUBLISHED = "workflow/published.csv"
"""The numbers of the tables and figures of arXiv 2508.04012, one a row."""


WORDS = {"bp_steps": ("step", "steps"), "train_steps": ("training batch", "training batches")}
"""Column → what one of it is called, and several."""


@cache
def published() -> pd.DataFrame:
    """All published numbers."""
    return pd.read_csv(suite_path(PUBLISHED))


def quoted(claim: Mapping[str, Any]) -> str:
    """The published numbers behind a claim.

    Parameters
    ----------
    claim
        One of ``workflow/claims.yaml``. Its ``quoted`` says which rows: what both sides have in
        common, and what makes ``a`` and ``b``.

    Returns
    -------
    str
        Each side's mean over the models, datasets and sizes that both have. Empty if the claim
        quotes nothing.
    """
    wanted = claim.get("quoted")
    if not wanted:
        return ""
    common = {key: value for key, value in wanted.items() if key not in "ab"}
    sides = {key: wanted[key] for key in "ab" if key in wanted}
    varied = {name for side in sides.values() for name in side}
    cells = [c for c in published() if c not in (*varied, "value")]
    found = [
        _rows({**common, **side}).groupby(cells, dropna=False)["value"] for side in sides.values()
    ]
    table = pd.concat([rows.mean() for rows in found], axis=1, keys=list(sides)).dropna()
    unit = table.index.get_level_values("unit")[0]
    digits = 2 if table.abs().max().max() < 2 else 0
    words = [f"{_named(side)}: {table[key].mean():.{digits}f}" for key, side in sides.items()]
    return f"{'; '.join(words)} {unit}".strip()


def _rows(wanted: Mapping[str, Any]) -> pd.DataFrame:
    rows = published()
    for key, value in wanted.items():
        rows = rows[rows[key] == value]
    return rows


def _named(side: Mapping[str, Any]) -> str:
    """One side in words."""
    said = [side["method"]] if "method" in side else []
    numbers = [(value, WORDS[key]) for key, value in side.items() if key != "method"]
    said += [f"{value} {one if value == 1 else many}" for value, (one, many) in numbers]
    return ", ".join(said)
