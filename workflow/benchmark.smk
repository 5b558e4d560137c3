# Entry of the benchmark (`make bench`), apart from the suite's: a run of the suite neither checks
# nor needs any of it. Targets: bench, bench_gpu.

import sys
from pathlib import Path

from smedit.benchmark.settings import (
    PARTS,
    check_enough_rows,
    models_of,
    parts_of,
    published,
    read_settings,
)
from smedit.errors import UserError, located, message
from smedit.hosting.borrowed import given_files, is_main
from smedit.models.module_names import expand_modules
from smedit.plan.catalogue import catalogue
from smedit.plan.config_files import check_files

DEFAULT, SMOKE_TEST = [
    Path(workflow.basedir, f"../config/{name}.yaml").resolve()
    for name in ("config", "smoke")
]
try:
    check_files([DEFAULT, SMOKE_TEST, *given_files(workflow)])
except (UserError, OSError) as error:
    sys.exit(f"error: {message(error)}")


configfile: str(DEFAULT)


include: "suite.smk"
include: "hooks.smk"


onstart:
    HOOKS.begin()


BENCHMARK_FILES = {
    name: ROOT / f"config/{name}.yaml" for name in ("benchmark", "benchmark-gpu")
}
KNOWN = {kind: catalogue(kind) for kind in ("models", "datasets")}

try:
    BENCHMARKS = {
        name: read_settings(
            path, KNOWN, ROOT / "workflow/schemas/benchmark.schema.yaml"
        )
        for name, path in BENCHMARK_FILES.items()
    }
    RANDOM_MODELS = {k: m for b in BENCHMARKS.values() for k, m in b["models"].items()}
    if is_main(workflow):
        for name, settings in BENCHMARKS.items():
            check_enough_rows(BENCHMARK_FILES[name], settings, KNOWN)
            with located(BENCHMARK_FILES[name]):
                check_models(settings["models"])
except (UserError, OSError) as error:
    sys.exit(f"error: {message(error)}")


def benchmark_job(w):
    """Settings of one benchmark, as the command line takes them."""
    settings = BENCHMARKS[w.benchmark]
    models = KNOWN["models"] | settings["models"]
    return as_json(
        {
            "settings": settings,
            "models": {
                name: {
                    "model_folder": model_folder(name),
                    "edit_modules": expand_modules(models[name]["edit_modules"]),
                }
                for name in models_of(settings)
            },
            "dataset_spec": KNOWN["datasets"][settings["dataset"]],
            "hyperparameters": published(),
        }
    )


include: "rules/benchmark.smk"
