# All rules of the suite, for one configuration. The Snakefile uses them twice: for the
# configuration that was asked for, and for the smoke test's.

import json
import os
import sys
from pathlib import Path

from smedit.data.readers import data_files
from smedit.errors import UserError
from smedit.hosting.borrowed import (
    folder_of_snakefile,
    is_main,
    is_started_by_cluster,
    keep_going,
    name_group,
    resource,
    sources,
)
from smedit.plan.config import check_data, completed
from smedit.plan.config_files import explained, read_file
from smedit.plan.jobs import (
    freeze_job,
    frozen,
    frozen_name,
    go_on,
    model_folder,
    run_job,
    set_aside,
    whole_runs,
)
from smedit.plan.plan import make_plan
from smedit.report.collect import BENCHMARK
from smedit.report.figures import CAPTIONS, SUFFIXES, figures_of
from smedit.report.tables import TABLES
from smedit.store.files import SUITE, suite_path

# The suite's folder. What a run reads of the suite lies there; models, results, figures and data lie
# in the working folder, which may be another (--directory, --snakefile).
ROOT = folder_of_snakefile(workflow).parent
os.environ[SUITE] = str(ROOT.resolve())
if ROOT.samefile(Path.cwd()):
    ROOT = Path()

SCRIPTS = ROOT / "workflow/scripts"

# Where this configuration stands, for messages: its files, and what --config gave. The module of
# the smoke test reads no file of its own.
SMOKE_FILE = ROOT / "config/smoke.yaml"
if config == read_file(SMOKE_FILE):
    SOURCES = [SMOKE_FILE], {}
else:
    SOURCES = sources(workflow)

keep_going(workflow)

# Runs of which nothing is left to do: their results come from the repository, or are whole.
SETTLED, WHOLE = set(), set()

try:
    config |= completed(config, SOURCES[0][0].stem if SOURCES[0] else "config")
    PLAN = make_plan(config)
    # Once per run, not once per job: this reads all data and imports torch.
    if is_main(workflow):
        from smedit.models.architectures import check_models

        check_data(PLAN)
        check_models(PLAN.models)
        SETTLED = go_on(PLAN, Path(config["results_dir"]))
        set_aside(PLAN, Path(config["results_dir"]))
        WHOLE = whole_runs(PLAN, Path(config["results_dir"]))
except (UserError, OSError) as error:
    sys.exit(f"error: {explained(error, *SOURCES)}")

RESULTS = config["results_dir"]
FIGURES = config["figures_dir"]
FROZEN = frozen(PLAN)
CHOICES = {f"{name}_{model}": search for (name, model), search in PLAN.searches.items()}


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/runs.smk"
include: "rules/report.smk"


# The results stand among the inputs because the tables of the reference run are committed: in a
# fresh clone they are there although nothing has been run.
rule tables:
    input:
        rules.tables_of_results.input,
        rules.tables_of_results.output,
        f"{RESULTS}/provenance.json",


rule figures:
    input:
        rules.figures_of_tables.output,


rule report:
    input:
        rules.report_of_tables.output,
