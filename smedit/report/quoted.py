"""What the paper's authors published, to stand beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from smedit.store.files import suite_path

PUBLISHED = "workflow/published.csv"
"""The numbers of the tables and figures of arXiv 2508.04012, one a row."""


@cache
def published() -> pd.DataFrame:
    """All published numbers."""
    return pd.read_csv(suite_path(PUBLISHED))


def quoted(claim: Mapping[str, Any]) -> str:
    """The published numbers behind a claim.

    Parameters
    ----------
    claim
        One of ``workflow/claims.yaml``. Its ``quoted`` says which rows; the key that has two
        values divides them into two sides.

    Returns
    -------
    str
        Each side's mean over all models, datasets and sizes there; without two values, the mean of
        all rows. Empty if the claim quotes nothing.
    """
    wanted = claim.get("quoted")
    if not wanted:
        return ""
    rows, divided = published(), None
    for key, value in wanted.items():
        values = value if isinstance(value, list) else [value]
        rows = rows[rows[key].isin(values)]
        divided = key if isinstance(value, list) else divided
    unit = rows.unit.iloc[0]
    if divided is None:
        return f"{rows['value'].mean():.0f} {unit}"
    sides = [
        f"{value}: {rows[rows[divided] == value]['value'].mean():.0f} {unit}"
        for value in wanted[divided]
    ]
    return f"{divided.replace('_', ' ')} {', '.join(sides)}"
