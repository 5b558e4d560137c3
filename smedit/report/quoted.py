"""What the paper's authors published, to stand beside what is measured here."""

from __future__ import annotations

import math
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


def quoted(claim: Mapping[str, Any]) -> dict[str, Any]:
    """The published numbers behind a claim.

    Parameters
    ----------
    claim
        One of ``workflow/claims.yaml``. Its ``quoted`` says which rows; the key that has two
        values divides them into two sides.

    Returns
    -------
    dict
        ``quoted_a`` and ``quoted_b``: the means of the two sides over all models, datasets and
        sizes there, in the order of the two values; without two values, of all rows and none.
        ``quoted_unit``: their unit. Empty if the claim quotes nothing.
    """
    wanted = claim.get("quoted")
    if not wanted:
        return {}
    rows, divided = published(), None
    for key, value in wanted.items():
        values = value if isinstance(value, list) else [value]
        rows = rows[rows[key].isin(values)]
        divided = key if isinstance(value, list) else divided
    sides = [rows[rows[divided] == value] for value in wanted[divided]] if divided else [rows]
    means = [side["value"].mean() for side in sides] + [math.nan]
    return {"quoted_a": means[0], "quoted_b": means[1], "quoted_unit": rows.unit.iloc[0]}
