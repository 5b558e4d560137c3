"""Stand-ins for the public files: invented rows, as many as the published files have.

They share subjects and locality prompts about as often as the published rows do.
"""

import random
from itertools import count, islice


def zsre_files(train: int = 10_000) -> dict[str, list[dict]]:
    """MEND's files by name; the evaluation file has 19,086 rows, about two per subject.

    The published training file has 163,196 or more rows; fewer will do here.
    """
    sizes = {"zsre_mend_train": train, "zsre_mend_eval": 19_086}
    return {name: list(islice(_zsre(name), size)) for name, size in sizes.items()}


def _zsre(tag):
    rng, number = random.Random(0), count()
    for i in count():
        for k in range(rng.choice([1, 1, 2, 3, 4])):
            yield {
                "subject": f"{tag} {i}",
                "src": f"What is fact {k} of {tag} {i}?",
                "rephrase": f"Name fact {k} of {tag} {i}?",
                "alt": f"a{(k + i) % 97}",
                "loc": f"nq question: which {tag} comes {next(number)}",
                "loc_ans": f"c{i % 83}",
            }


def flat_trio() -> dict[str, list[dict]]:
    """EasyEdit's CounterFact files by name: 10,000, 1,919 and 10,000 rows.

    28 of 100 training rows have a locality prompt of an evaluation row, 7 a subject of one.
    """
    evaluation = [_flat(i) for i in range(10_000)]
    tune = [_flat(i) for i in range(10_000, 11_919)]
    train = [_flat(i) for i in range(20_000, 30_000)]
    for i, row in enumerate(train):
        if i % 100 < 28:
            row["locality_prompt"] = evaluation[i]["locality_prompt"]
        elif i % 100 < 35:
            train[i] = {**_flat(i), "prompt": f"Subject {i} was in"}
    return {"counterfact-train": train, "counterfact-val": tune, "counterfact-edit": evaluation}


def _flat(number: int) -> dict:
    subject, true = f"Subject {number}", f"Land {(number + 7) % 50}"
    return {
        "prompt": f"{subject} is in",
        "target_new": f"Land {number % 50}",
        "subject": subject,
        "ground_truth": true,
        "rephrase_prompt": f"One finds {subject} in",
        "locality_prompt": f"Neighbour {number} is in",
        "locality_ground_truth": true,
    }


def nested_pool(n_prompts: int = 10) -> list[dict]:
    """ROME's CounterFact: 21,919 rows with ten neighbourhood prompts, about four distinct per row.

    A few relations have hundreds of rows, many have two; the rows of one share their prompts.
    """
    rng = random.Random(0)
    rows: list[dict] = []
    for group in count():
        if len(rows) >= 21_919:
            rng.shuffle(rows)
            return rows
        size = rng.choice([400] + [60] * 3 + [2] * 30)
        prompts = [f"Neighbour {i} of {group} is in" for i in range(max(20, 4 * size))]
        for i in range(min(size, 21_919 - len(rows))):
            subject = f"Subject {i} of {group}"
            new, true = {"str": f"Land {group % 139}"}, {"str": f"City {group % 139}"}
            rows.append(
                {
                    "requested_rewrite": {
                        "prompt": "{} is in",
                        "subject": subject,
                        "target_new": new,
                        "target_true": true,
                    },
                    "paraphrase_prompts": [f"One finds {subject} in", f"{subject} lies in"],
                    "neighborhood_prompts": rng.sample(prompts, n_prompts),
                }
            )
