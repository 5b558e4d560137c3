# Entry of the workflow. Targets: reproduce (default), batch and sequential (the tables of one half),
# tables, figures, smoke.

import sys
import time
import yaml
from contextlib import suppress
from pathlib import Path

from snakemake.utils import min_version

from smedit import failures, run_lock
from smedit.errors import UserError, message
from smedit.files import check_writable, lies_here, set_refused_aside

min_version("9.8")


# A configuration given with --configfile stands alone; nothing of the default is mixed in.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/suite.smk"


STARTED = time.time()
FAILED = Path(config["results_dir"], "failed.csv")


# `--no-hooks` leaves all of this out.
onstart:
    try:
        run_lock.hold(Path(".snakemake/smedit.lock"))
        jobs = workflow.dag.needrun_jobs()
        outputs = [Path(path) for job in jobs for path in job.output]
        check_writable(sorted({str(path.parent) for path in outputs}))
    except (UserError, OSError) as error:
        raise WorkflowError(message(error)) from None
    with suppress(OSError):  # for the smoke test, it may lie in a read-only folder
        FAILED.unlink(missing_ok=True)
    # Jobs of a run on this machine do not each import PyTorch. On a GPU they do: what a process
    # knows of one does not survive a fork.
    on_this_machine = workflow.is_main_process and workflow.local_exec
    own_environments = workflow.deployment_settings.deployment_method
    if sys.platform == "linux" and on_this_machine and not own_environments:
        import torch
        from smedit import warm_start

        if config["device"] == "cpu" or not torch.cuda.is_available():
            warm_start.start(min(config["threads"], workflow.cores))


onerror:
    members = [
        member
        for job in workflow.scheduler.failed
        for member in (job.jobs if job.is_group() else [job])
    ]
    try:
        for path in set_refused_aside(KEPT):
            print(f"Set aside: {path}", file=sys.stderr)
        failed = failures.find_failures(
            (
                (job.rule.name, [str(path) for path in job.output], str(job.log[0]))
                for job in members
                if job.output and job.log
            ),
            STARTED,
        )
        if failed:
            unfinished = sum(
                bool(job.output) and not failures.were_made(job.output, STARTED)
                for job in workflow.dag.needrun_jobs()
            )
            print(failures.describe(failed, unfinished, FAILED), file=sys.stderr)
            failures.write_table(failed, FAILED)
    except (UserError, OSError) as error:
        print(f"error: {message(error)}", file=sys.stderr)


onsuccess:
    with suppress(OSError):  # what stays in its place is refused again
        set_refused_aside(KEPT)


SMOKE = yaml.safe_load(Path("config/smoke.yaml").read_text(encoding="utf-8"))
# Where damaged files are set aside. Models that several copies of the suite share stay.
KEPT = [config["results_dir"], SMOKE["results_dir"]]
if lies_here(Path("resources/models")):
    KEPT.append("resources/models")


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
