# Entry of the workflow. Targets: reproduce (default), tables, figures, smoke.

import yaml
from pathlib import Path

from snakemake.utils import min_version

min_version("9.8")


# A configuration given with --configfile stands alone; nothing of the default is mixed in.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/suite.smk"


SMOKE = yaml.safe_load(Path("config/smoke.yaml").read_text(encoding="utf-8"))


if config["results_dir"] == SMOKE["results_dir"]:

    rule smoke:
        input:
            rules.reproduce.input,

else:

    module smoke_suite:
        snakefile:
            "workflow/suite.smk"
        config:
            SMOKE

    use rule * from smoke_suite as smoke_*

    rule smoke:
        input:
            rules.smoke_reproduce.input,
