# Entry of the workflow. Targets: reproduce (default), tables, figures, report, smoke.

import sys
from pathlib import Path

from snakemake.utils import min_version

from smedit.errors import UserError, message
from smedit.hosting.borrowed import given_files
from smedit.plan.config_files import check_files, read_file

min_version("9.27")

DEFAULT = Path(workflow.basedir, "config/config.yaml")
try:
    check_files(given_files(workflow) or [DEFAULT])
    SMOKE = read_file(Path(workflow.basedir, "config/smoke.yaml"))
except (UserError, OSError) as error:
    sys.exit(f"error: {message(error)}")


# A configuration given with --configfile stands alone; nothing of the default is mixed in.
if not given_files(workflow):

    configfile: str(DEFAULT)


include: "workflow/suite.smk"
include: "workflow/hooks.smk"


HOOKS.results[Path(SMOKE["results_dir"])] = Path(SMOKE["figures_dir"])


onstart:
    HOOKS.begin()
    HOOKS.cancel_at_exit()
    HOOKS.start_warm(
        config["device"], max(run.settings.threads for run in PLAN.runs.values())
    )


if config["results_dir"] == SMOKE["results_dir"]:

    rule smoke:
        input:
            rules.tables.input,
            rules.figures.input,
            rules.report.input,

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
            rules.smoke_report.input,


# The last rule, as a module brings a default target of its own.
rule reproduce:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.report.input,
