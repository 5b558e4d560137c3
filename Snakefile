# Entry of the workflow. Targets: reproduce (default), tables, figures, smoke.

import atexit
import subprocess
import sys
from pathlib import Path

from snakemake.utils import min_version

from smedit.plan.config_files import check_files, read_file
from smedit.errors import UserError, message

min_version("9.8")

DEFAULT = Path(workflow.basedir, "config/config.yaml")
try:
    check_files(workflow.overwrite_configfiles or [DEFAULT])
    SMOKE = read_file(Path(workflow.basedir, "config/smoke.yaml"))
except (UserError, OSError) as error:
    sys.exit(f"error: {message(error)}")


# A configuration given with --configfile stands alone; nothing of the default is mixed in.
if not workflow.overwrite_configfiles:

    configfile: str(DEFAULT)


include: "workflow/suite.smk"
include: "workflow/hooks.smk"


# `--no-hooks` leaves all of this out.
onstart:
    begin_run()
    # On Ctrl-C, the SLURM plugin overlooks jobs that it is just submitting or asking about.
    executor = getattr(workflow.scheduler, "_executor", None)
    slurm_run = getattr(executor, "run_uuid", None)
    if slurm_run:
        atexit.register(subprocess.run, ["scancel", "--name", slurm_run])
    # Jobs of a run on this machine do not each import PyTorch. On a GPU they do: what a process
    # knows of one does not survive a fork.
    on_this_machine = workflow.is_main_process and workflow.local_exec
    own_environments = workflow.deployment_settings.deployment_method
    if sys.platform == "linux" and on_this_machine and not own_environments:
        import torch
        from smedit.hosting import warm_start

        if config["device"] == "cpu" or not torch.cuda.is_available():
            threads = max(run.settings.threads for run in PLAN.runs.values())
            warm_start.start(min(threads, workflow.cores))


KEPT.append(SMOKE["results_dir"])
SHOWN[Path(SMOKE["results_dir"])] = Path(SMOKE["figures_dir"])


if config["results_dir"] == SMOKE["results_dir"]:

    rule smoke:
        input:
            rules.tables.input,
            rules.figures.input,

else:

    module smoke_suite:
        snakefile:
            "workflow/suite.smk"
        config:
            SMOKE

    use rule * from smoke_suite as smoke_*

    # A copy of the smoke test's configuration may name the same models and figures.
    ruleorder: prepare_model > smoke_prepare_model
    ruleorder: figures_of_tables > smoke_figures_of_tables

    rule smoke:
        input:
            rules.smoke_tables.input,
            rules.smoke_figures.input,


# The last rule, as a module brings a default target of its own.
rule reproduce:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
