"""What an earlier result of a run measured, which one that is asked for more need not measure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.errors import UserError
from smedit.store.records import Evaluated, Point
from smedit.store.results import checksum, result_with

log = logging.getLogger("smedit")


class Earlier:
    """The evaluations of an earlier result; none if it is of another job, version or machine.

    Whether they are of the same editor is known once training has begun (`compare`).

    Parameters
    ----------
    path
        The result, if there may be one.
    made
        What both have to have in common.
    unedited
        Measurement → the point before the first edit, as it is now.

    Attributes
    ----------
    evaluations
        Checksum of a measurement → its evaluation.
    steps, seconds
        Of its training: what each step measured, and how long all took.
    """

    def __init__(
        self,
        path: Path | None,
        made: Mapping[str, Any],
        unedited: Callable[[Mapping[str, Any]], Point],
    ) -> None:
        self.evaluations: dict[str, Evaluated] = {}
        self.steps: list[dict[str, Any]] = []
        self.seconds = 0.0
        if path is None or not path.exists():
            return
        try:
            result = result_with("evaluations", path)
        except UserError as error:
            log.warning("measuring all anew: %s", error)
            return
        other = [name for name, value in made.items() if result.get(name) != value]
        if other or result["diverged"]:
            log.info("measuring all anew: %s has another %s", path, ", ".join(other) or "end")
            return
        self.steps, self.seconds = result["training"], result["seconds"]["train"]
        for evaluation in result["evaluations"]:
            measurement = evaluation["measurement"]
            if checksum(evaluation["points"][0]) == checksum(unedited(measurement)):
                self.evaluations[checksum(measurement)] = evaluation

    def compare(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Forget all, unless training goes as it did then, to the last bit of its losses."""
        then, now = _numbers(self.steps), _numbers(steps)
        common = min(len(then), len(now))
        if then[:common] != now[:common] or (then and not common):
            log.info("measuring all anew: training does not show the editor of the earlier result")
            self.evaluations, self.steps, self.seconds = {}, [], 0.0
        elif self.evaluations:
            log.info("%d measurements of the earlier result are kept", len(self.evaluations))


def _numbers(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in step.items() if key != "seconds"} for step in steps]
