"""The values that the study chose for a model and a method: where people's own edits begin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

FILE = "studied.yaml"
"""Model → method → ``values``, and the ``runs`` of the study (results/reference) that they come
from; workflow/scripts/quote_results.py writes it."""


def studied(model: str, method: str) -> Mapping[str, Any]:
    """What the study chose; empty where it chose nothing.

    Parameters
    ----------
    model, method
        Their names in the catalogue.

    Returns
    -------
    Mapping
        Setting of training → value.
    """
    return _chosen().get(model, {}).get(method, {}).get("values", {})


@cache
def _chosen() -> Mapping[str, Any]:
    text = files("smedit.editing").joinpath(FILE).read_text(encoding="utf-8")
    return yaml.safe_load(text) or {}
