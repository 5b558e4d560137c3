"""Tables of a plan with made-up numbers, as many seeds and variants as it has."""

import math
import zlib

import numpy as np
import pandas as pd

from smedit.report.tables import TABLES, place

METRICS = (
    *(("efficacy", "accuracy"), ("generalization", "accuracy"), ("specificity", "accuracy")),
    *(("specificity", "agreement"), ("harm", "nats")),
)
TIMES = {"trace": 1.0, "shift": 0.4, "edit loss": 0.8, "locality loss": 0.5}


def made_tables(rows):
    """Scores, gains and timings, as `smedit.report.tables` has them."""
    scores, gains, timings = [], [], []
    for row in rows:
        where = place(
            {**row, "lr": row["lr"] or 1e-4, "within_bound": None}
        )  # nothing is chosen yet
        draw = np.random.default_rng(zlib.crc32(str(sorted(map(str, row.items()))).encode()))
        for stage, batches in points_of(row):
            for metric, score in METRICS:
                value = value_of(row, metric, score, stage, batches, draw)
                spread = 0.2 * abs(value) if metric == "harm" else 6
                n = {"harm": 60}.get(metric, max(1, batches or 4) * row["n_edits"])
                scores.append(
                    {
                        **where,
                        **{"stage": stage, "batches": batches, "metric": metric, "score": score},
                        **{"scope": "text" if metric == "harm" else "all", "value": value},
                        **{"ci_low": value - spread, "ci_high": value + spread},
                        **{"n_rows": 2 * n, "n_resampled": n},
                    }
                )
        gain = {"gain_of": "second step" if row["bp_steps"] == 2 else "norm in place of KL"}
        for metric, score in METRICS[:4]:
            value = draw.normal(8 if row["bp_steps"] == 2 else -1, 4)
            ends = {"ci_low": value - 5, "ci_high": value + 5, "n_resampled": 64}
            gains.append({**where, **gain, "metric": metric, "score": score, "gain": value, **ends})
        for phase, seconds in TIMES.items():
            spent = seconds * row["bp_steps"] * draw.uniform(0.9, 1.1)
            timings.append(
                {**where, "phase": phase, "per": "training step", "seconds": spent, "n": 5}
            )
    made = {"scores": scores, "gains": gains, "timings": timings}
    return {name: pd.DataFrame(part, columns=TABLES[name][0]) for name, part in made.items()}


def points_of(row):
    """Stage and batches of every point."""
    if row["protocol"] == "batch":
        done = row["n_requests"] // row["n_edits"]
        return [(0, 0), *((step, done) for step in range(1, row["edit_steps"] + 1))]
    every = row["n_batches"] / row["points"]
    at = [round(every * n) for n in range(1, row["points"] + 1)]
    return [(0, 0), *((row["edit_steps"], batches) for batches in at)]


def value_of(row, metric, score, stage, batches, draw):
    """More training, steps and step size edit more and harm more."""
    step = row["edit_lr"] or row["lr"] or 1e-4
    force = 0.9 * (math.log10(step) + 4) + 1.2 * math.log1p(row["train_batches"] or 0)
    force += 1.3 * stage + 0.4 * draw.normal() + zlib.crc32(row["variant"].encode()) % 7 / 5 - 2
    harm = 0.02 * math.exp(1.1 * force) * (1 + 0.2 * batches * (row["protocol"] != "batch"))
    if row["dataset"] != "zsre":
        harm *= 1.6
    if metric == "harm":
        return 0.0 if stage == 0 else min(harm, 9.0) + 0.004 * draw.normal()
    before = {"efficacy": 20, "generalization": 18, "specificity": 25}[metric]
    if score == "agreement":
        return 100 if stage == 0 else max(2.0, 100 - 22 * math.log1p(4 * harm))
    if stage == 0:
        return before
    if metric == "specificity":
        return max(1.0, before - 6 * math.log1p(harm))
    top = 98 if metric == "efficacy" else 85
    reached = before + (top - before) / (1 + math.exp(1.5 - force))
    return min(100.0, max(0.0, reached - 6 * math.log1p(max(0, harm - 2)) + 2 * draw.normal()))
