# What every run does at its beginning and at its end, that of the suite and that of the benchmark.
# `--no-hooks` leaves all of this out.

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from smedit.hosting import failures, run_lock
from smedit.plan.config_files import explained
from smedit.plan.forecast import screen
from smedit.errors import UserError, message
from smedit.report.show import places, show
from smedit.store.files import check_writable, lies_here, set_refused_aside

STARTED = time.time()
FAILED = Path(config["results_dir"], "failed.csv")
# Where damaged files are set aside. Models that several copies of the suite share stay.
KEPT = [config["results_dir"]]
if lies_here(Path("resources/models")):
    KEPT.append("resources/models")


SUBMISSIONS = {}

# The plan on one screen. A dry run has no hook, so it is printed here, where the targets are not
# known yet: the smoke test has a configuration of its own.
if workflow.is_main_process and not {"smoke", "--lint"} & set(sys.argv):
    print(screen(PLAN, Path(config["results_dir"])), file=sys.stderr)

# Results → figures of those whose tables a run prints at its end, if it made them.
SHOWN = {Path(config["results_dir"]): Path(config["figures_dir"])}


def members(job):
    """The jobs of a group, or the one job."""
    return job.jobs if job.is_group() else [job]


def listen_to(executor):
    """Keep what the executor says of each submission that failed; it says so to the log alone.

    A group's log has not even the words.
    """
    tell = executor.print_job_error

    def print_job_error(job_info, msg=None, **options):
        submission = failures.Submission(
            words=msg or "",
            taken=job_info.external_jobid is not None,
            logs=tuple(map(str, options.get("aux_logs") or ())),
        )
        for job in members(job_info.job):
            SUBMISSIONS.update((str(log), submission) for log in job.log)
        tell(job_info, msg, **options)

    executor.print_job_error = print_job_error


def asks_for_cuda(job):
    """Whether a job's settings say that it runs on a GPU; downloads and tables have none."""
    return json.loads(job.params.get("job", "{}")).get("device") == "cuda"


def begin_run():
    """For `onstart`: see that this run is the only one here, and can write what it makes."""
    try:
        run_lock.hold(Path(".snakemake/smedit.lock"))
        jobs = list(workflow.dag.needrun_jobs())
        outputs = [Path(path) for job in jobs for path in job.output]
        check_writable(sorted({str(path.parent) for path in outputs}))
        if workflow.local_exec and any(map(asks_for_cuda, jobs)):
            from smedit.run.opening import device_of

            device_of("cuda")
    except (UserError, OSError) as error:
        sys.exit(f"error: {explained(error, *SOURCES)}")
    executor = getattr(workflow.scheduler, "_executor", None)
    if hasattr(executor, "run_uuid"):  # that of SLURM
        listen_to(executor)
    with suppress(OSError):  # for the smoke test, it may lie in a read-only folder
        FAILED.unlink(missing_ok=True)


onerror:
    failed_jobs = [m for job in workflow.scheduler.failed for m in members(job)]
    try:
        for path in set_refused_aside(KEPT):
            print(f"Set aside: {path}", file=sys.stderr)
        failed = failures.find_failures(
            (
                (job.rule.name, [str(path) for path in job.output], str(job.log[0]))
                for job in failed_jobs
                if job.output and job.log
            ),
            STARTED,
            SUBMISSIONS,
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
    made = {str(path) for job in workflow.dag.jobs for path in job.output}
    for results, figures in SHOWN.items():
        if f"{results}/summary.csv" in made:
            print(
                show(results, {}),
                places(results, figures),
                sep="\n\n",
                file=sys.stderr,
            )
