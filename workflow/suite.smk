# All rules of the suite, for one configuration. The Snakefile uses them twice: for the
# configuration that was asked for, and for the smoke test's.

import json
import os
import sys
from pathlib import Path

from snakemake.utils import Paramspace

from smedit.plan.config import check_config, check_data
from smedit.plan.config_files import explained, read_file
from smedit.errors import UserError
from smedit.store.files import SUITE
from smedit.hosting.gpu_slots import GPUS
from smedit.plan.grid import cell_path, grid_cells, tuning_cells
from smedit.plan.job_settings import (
    cell_job,
    freeze_job,
    stream_job,
    stream_tuning_job,
    tuning_job,
)
from smedit.data.readers import data_files
from smedit.plan.stream_grid import stream_cells, stream_tuning_cells

# Large tensors come and go. By default each one is mapped anew from the system and its pages are
# filled again; with this, glibc keeps them.
os.environ.setdefault(
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864",
)

# The suite's folder. What a run reads of the suite lies there; models, results, figures and data lie
# in the working folder, which may be another (--directory, --snakefile).
ROOT = Path(str(workflow.current_basedir)).parent
os.environ[SUITE] = str(ROOT.resolve())
given = workflow.global_resources["gpu"] if "gpu" in workflow.global_resources else ""
os.environ[GPUS] = str(getattr(given, "value", given))  # a number in older versions
if ROOT.samefile(Path.cwd()):
    ROOT = Path()

SCRIPTS = ROOT / "workflow/scripts"
TABLES = ["scores", "gains", "timings", "memory", "training", "experiments", "tuning"]
STREAM_TABLES = [
    "sequential",
    "sequential_timings",
    "sequential_gains",
    "sequential_memory",
    "sequential_training",
    "sequential_experiments",
    "sequential_tuning",
]

# Where this configuration stands, for messages: its files, and what --config gave. The module of
# the smoke test reads no file of its own.
SMOKE_FILE = ROOT / "config/smoke.yaml"
if config == read_file(SMOKE_FILE):
    SOURCES = [SMOKE_FILE], {}
else:
    SOURCES = [
        Path(file) for file in workflow.configfiles
    ], workflow.config_settings.config

try:
    check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
    # Once per run, not once per job: this reads all data and imports torch.
    if workflow.is_main_process:
        from smedit.models.architectures import check_models

        check_data(config)
        check_models(config["models"])
except (UserError, OSError) as error:
    sys.exit(f"error: {explained(error, *SOURCES)}")

RESULTS = config["results_dir"]
FIGURES = config["figures_dir"]
CELLS = Paramspace(grid_cells(config))
TUNING = Paramspace(tuning_cells(config))
STREAMS = Paramspace(stream_cells(config))
STREAM_TUNING = Paramspace(stream_tuning_cells(config))


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/tuning.smk"
include: "rules/cells.smk"
include: "rules/streams.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"


# The results stand among the inputs because the tables of the reference run are committed: in a
# fresh clone they are there although nothing has been run.
rule batch:
    input:
        rules.tables_of_results.input.cells,
        [f"{RESULTS}/{table}.csv" for table in TABLES],


rule sequential:
    input:
        rules.stream_tables.input.streams,
        [f"{RESULTS}/{table}.csv" for table in STREAM_TABLES],


rule tables:
    input:
        rules.batch.input,
        rules.sequential.input,
        f"{RESULTS}/provenance.json",


rule figures:
    input:
        rules.figures_of_tables.output,
