"""Which requests a run got wrong, with their text and what the model says instead."""

from __future__ import annotations

from pathlib import Path

from smedit.data.readers import load_requests
from smedit.errors import UserError
from smedit.models.model_sources import load_tokenizer
from smedit.store.results import result_with


def failed_requests(results: Path, run: str) -> str:
    """The requests whose edit prompt is not answered word for word at a run's last points.

    A result holds numbers only: texts are read again from the dataset, and the model's words from
    its tokenizer.

    Parameters
    ----------
    results
        The folder of the tables.
    run
        Name of the run, or the beginning of it.

    Raises
    ------
    UserError
        If there is no such run, or its dataset or model is no longer there.
    """
    found = sorted((results / "runs").glob(f"{run}*.json"))
    if len(found) != 1:
        known = ", ".join(path.stem for path in found[:5])
        hint = f"; it is one of {known}" if found else f"; {results}/runs.csv lists all runs"
        raise UserError(f"--failed: {len(found)} runs begin with {run!r}{hint}")
    result = result_with("evaluations", found[0])
    settings = result["settings"]
    folder = Path("resources/models") / settings["model"]
    if not folder.is_dir():
        raise UserError(f"{folder}: the model is no longer there; run the workflow to make it anew")
    tokenizer = load_tokenizer(folder)
    splits = load_requests(settings["dataset"], result["dataset_spec"], settings["seed"])
    lines = []
    for evaluation in result["evaluations"]:
        measurement = evaluation["measurement"]
        rows, said = splits.parts[measurement["rows"]], evaluation["says"].get("efficacy", [])
        (exact,) = (
            entry["rows"]
            for entry in evaluation["points"][-1]["scores"]
            if (entry["metric"], entry["score"]) == ("efficacy", "exact_match")
        )
        wrong = [i for i in range(len(said)) if not all(exact[i])]
        described = ", ".join(f"{k} {v}" for k, v in measurement.items() if v is not None)
        lines.append(f"{found[0].stem}: {described}")
        lines.append(f"{len(wrong)} of {len(said)} requests are not answered word for word")
        for i in wrong:
            words = tokenizer.decode(said[i][0]).strip()
            edit = rows[i].edit
            lines += [f"  {i}: {edit.text}", f"     wanted {edit.answer!r}, says {words!r}"]
        lines += [
            f"  generated for request {each['request']}: {tokenizer.decode(each['tokens'])!r}"
            for each in evaluation["generated"]
        ]
    return "\n".join(lines)
