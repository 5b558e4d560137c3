"""What every run does at its beginning and at its end, that of the suite and that of the benchmark.

``--no-hooks`` leaves all of this out.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from smedit.errors import UserError, message
from smedit.hosting import borrowed, failures, job_environment, progress, run_lock, warm_start
from smedit.plan.config_files import explained
from smedit.report.show import places, show
from smedit.store.files import check_writable, lies_here, set_refused_aside

MODELS = Path("resources/models")


class Hooks:
    """The hooks of one run.

    Parameters
    ----------
    workflow
        Snakemake's.
    config
        The configuration.
    sources
        Where it stands: its files, and what ``--config`` gave.

    Attributes
    ----------
    results
        Folders whose damaged files are set aside, each with its folder of figures. Of those whose
        tables a run made it prints the summary.
    """

    def __init__(
        self, workflow: Any, config: Mapping[str, Any], sources: tuple[list[Path], Mapping]
    ) -> None:
        self.workflow = workflow
        self.sources = sources
        self.started = time.time()
        self.results = {Path(config["results_dir"]): Path(config["figures_dir"])}
        self.failed = Path(config["results_dir"], "failed.csv")
        self.submissions: dict[str, failures.Submission] = {}

    def begin(self) -> None:
        """See that this run is the only one here and can write what it makes; prepare its jobs."""
        here = borrowed.runs_here(self.workflow)
        try:
            run_lock.hold(Path(".snakemake/smedit.lock"))
            jobs = borrowed.jobs_to_do(self.workflow)
            check_writable(sorted({str(Path(path).parent) for job in jobs for path in job.outputs}))
            settings = borrowed.settings_of_jobs(self.workflow)
            if here and any(settings.get(j.number, {}).get("device") == "cuda" for j in jobs):
                from smedit.run.opening import device_of

                device_of("cuda")
        except (UserError, OSError) as error:
            sys.exit(f"error: {explained(error, *self.sources)}")
        job_environment.prepare(borrowed.resource(self.workflow, "gpu"))
        borrowed.listen_to_slurm(self.workflow, self._hear)
        cores = self.workflow.cores if here else None
        progress.begin(borrowed.jobs_of_run(self.workflow), jobs, settings, cores)
        with suppress(OSError):  # for the smoke test, it may lie in a read-only folder
            self.failed.unlink(missing_ok=True)

    def start_warm(self, device: str, threads: int) -> None:
        """Load the libraries once for all jobs of this machine.

        On a GPU each job loads them itself: what a process knows of one does not survive a fork.
        """
        here = borrowed.runs_here(self.workflow)
        if sys.platform != "linux" or not here or borrowed.brings_environments(self.workflow):
            return
        import torch

        if device == "cpu" or not torch.cuda.is_available():
            warm_start.start(min(threads, self.workflow.cores))

    def cancel_at_exit(self) -> None:
        """On Ctrl-C, the SLURM plugin overlooks jobs that it is just submitting or asking about."""
        if run := borrowed.slurm_run(self.workflow):
            atexit.register(subprocess.run, ["scancel", "--name", run])

    def end_failed(self) -> None:
        """Name each job that failed, with its reason and its log; set damaged files aside."""
        try:
            for path in set_refused_aside(self._kept()):
                print(f"Set aside: {path}", file=sys.stderr)
            failed = failures.find_failures(
                (
                    (job.rule, list(job.outputs), job.log)
                    for job in borrowed.failed_jobs(self.workflow)
                    if job.outputs and job.log
                ),
                self.started,
                self.submissions,
            )
            if failed:
                unfinished = sum(
                    bool(job.outputs) and not failures.were_made(job.outputs, self.started)
                    for job in borrowed.jobs_to_do(self.workflow)
                )
                print(failures.describe(failed, unfinished, self.failed), file=sys.stderr)
                failures.write_table(failed, self.failed)
        except (UserError, OSError) as error:
            print(f"error: {message(error)}", file=sys.stderr)

    def end_well(self) -> None:
        """Print the scores of what was made, and where everything is."""
        with suppress(OSError):  # what stays in its place is refused again
            set_refused_aside(self._kept())
        made = {path for job in borrowed.jobs_of_run(self.workflow) for path in job.outputs}
        try:
            for results, figures in self.results.items():
                if f"{results}/summary.csv" in made:
                    print(show(results, {}), places(results, figures), sep="\n\n", file=sys.stderr)
        except (UserError, OSError) as error:
            sys.exit(f"error: {message(error)}")

    def _kept(self) -> list[str]:
        """Where damaged files are set aside. Models that several copies of the suite share stay."""
        return [str(path) for path in (*self.results, *([MODELS] if lies_here(MODELS) else []))]

    def _hear(
        self, jobs: Iterable[borrowed.Job], words: str, taken: bool, logs: tuple[str, ...]
    ) -> None:
        submission = failures.Submission(words, taken, logs)
        self.submissions |= {job.log: submission for job in jobs if job.log}
