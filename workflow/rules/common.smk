# What several rules share: the settings of a job, as the command line takes them.


def model_job(model):
    """Settings that open a model; the thread count is fixed, so that numbers never depend on it."""
    return {
        "model": model,
        "model_folder": f"resources/models/{model}",
        "edit_modules": expand_modules(config["models"][model]["edit_modules"]),
        "precision": config["precision"],
        "device": config["device"],
        "threads": config["threads"],
    }


def data_job(dataset, seed):
    """Settings that read a dataset."""
    return {
        "dataset": dataset,
        "dataset_spec": config["datasets"][dataset],
        "seed": int(seed),
    }


def typed(wildcards, columns, space):
    """A cell's settings from its wildcards, with the types of the grid's columns."""
    types = space.dataframe.dtypes
    return {
        name: (
            types[name].type(wildcards[name]).item()
            if types[name].kind in "if"
            else wildcards[name]
        )
        for name in columns
    }


def as_json(value):
    """One line of canonical JSON for a command line."""
    return json.dumps(value, sort_keys=True)


def tuning_job(w):
    """Settings of one cell of the hyperparameter search."""
    settings = {
        "bp_steps": load_method(w.method).bp_steps,
        "locality": load_method(w.method).locality,
        "adam_repeats": load_method(w.method).bp_steps,
        "train_from": "original",
        "n_edits": config["tuning"]["n_edits"],
        "train_batches": config["tuning"]["train_batches"],
        "seed": config["seeds"][0],
    }
    point = typed(w, TUNING_COLUMNS, TUNING)
    names = ("model", "dataset", "method")
    return as_json(
        model_job(w.model)
        | data_job(w.dataset, settings["seed"])
        | {
            "split": "tune",
            "eval_edits": config["tuning"]["eval_edits"],
            "settings": {name: point[name] for name in names} | settings,
            "hyperparameters": config["hyperparameters"] | {k: point[k] for k in TUNED},
        }
    )


def cell_job(w):
    """Settings of one cell of the grid; `--chosen` puts in what the search chose."""
    settings = typed(w, CELL_COLUMNS, CELLS)
    return as_json(
        model_job(w.model)
        | data_job(w.dataset, w.seed)
        | {
            "split": "eval",
            "eval_edits": config["eval_edits"],
            "settings": settings,
            # A method whose grid has one point is not searched: that point is its value.
            "hyperparameters": config["hyperparameters"]
            | candidates(config, w.method)[0],
        }
    )


def stream_tuning_job(w):
    """Settings of one stream of the hyperparameter search."""
    part = config["sequential"]
    point = typed(w, STREAM_TUNING_COLUMNS, STREAM_TUNING)
    size = [
        part["tuning"][key] for key in ("n_edits", "n_sequences", "train_sequences")
    ]
    steps = load_method(w.method).bp_steps
    return as_json(
        model_job(w.model)
        | data_job(w.dataset, config["seeds"][0])
        | {
            "split": "tune",
            "settings": {
                "model": w.model,
                "dataset": w.dataset,
                **stream_settings(w.method, steps, None, *size, part["passes"]),
                "points": 1,
                "seed": config["seeds"][0],
            },
            "hyperparameters": stream_hyperparameters(config)
            | {k: point[k] for k in STREAM_TUNED},
        }
    )


def stream_job(w):
    """Settings of one stream of the grid; `--chosen` puts in what the search chose."""
    settings = typed(w, STREAM_COLUMNS, STREAMS)
    return as_json(
        model_job(w.model)
        | data_job(w.dataset, w.seed)
        | {
            "split": "eval",
            "settings": settings,
            "hyperparameters": stream_hyperparameters(config)
            | stream_candidates(config, w.method)[0],
        }
    )
