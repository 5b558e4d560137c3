"""A job's settings → a result: `freeze` once per model and dataset, then `run`."""
