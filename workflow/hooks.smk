# What every run does at its beginning and at its end, that of the suite and that of the benchmark.
# `--no-hooks` leaves all of this out, but for the plan.

import sys
from pathlib import Path

from smedit.hosting.borrowed import is_main
from smedit.hosting.hooks import Hooks
from smedit.plan.forecast import screen

HOOKS = Hooks(workflow, config, SOURCES)

# The plan on one screen. A dry run has no hook, so it is printed here, where the targets are not
# known yet: the smoke test has a configuration of its own.
if is_main(workflow) and not {"smoke", "--lint"} & set(sys.argv):
    print(screen(PLAN, Path(config["results_dir"])), file=sys.stderr)


onerror:
    HOOKS.end_failed()


onsuccess:
    HOOKS.end_well()
