"""All that the suite takes from Snakemake's insides.

Warning
-------
Nothing in this file is promised by Snakemake's manual, and any release may rename it. Therefore

- it stands here, in `console` (log records) and nowhere else: rules and hooks call these functions;
- ``pyproject.toml`` bounds the versions of Snakemake, of its SLURM plugin and of the interface of
  its loggers;
- ``tests/unit/test_borrowed.py`` runs a workflow through every function and fails, with the name,
  when something is gone.

To allow a newer version, raise the bounds, then run that test and ``make test-slurm``.

================================================= ===============================================
borrowed                                          because
================================================= ===============================================
``workflow.is_main_process``, ``remote_exec``     a Snakefile is read again in each job of a
                                                  cluster, where no data need be checked
``workflow.local_exec``, ``deployment_settings``  jobs of this machine share loaded libraries
``workflow.overwrite_configfiles``,               a message names the file of a wrong setting
``configfiles``, ``config_settings``
``workflow.global_resources``                     jobs share the GPUs that a run is given
``workflow.current_basedir``                      the suite runs from any folder, and as a module
``workflow.parent_groupids``                      groups by model and dataset, of one name
``JobScheduler.keepgoing``                        the rest of a group goes on if one job fails
``workflow.dag``, ``workflow.scheduler.failed``,  what a run writes is checked before; failed jobs
attributes of jobs                                are named after
``workflow.scheduler._executor``, and the SLURM   SLURM's words on a failed submission; jobs that
plugin's ``run_uuid`` and ``print_job_error``     it overlooks on Ctrl-C are cancelled
================================================= ===============================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake.scheduling.job_scheduler import JobScheduler


@dataclass(frozen=True)
class Job:
    """A job of a run.

    Attributes
    ----------
    number
        Snakemake's, in its log records.
    rule, outputs, log, benchmark
        Its rule's name and its files; without a log or a benchmark, these are empty.
    threads
        How many it uses.
    """

    number: int
    rule: str
    outputs: tuple[str, ...]
    log: str = ""
    benchmark: str = ""
    threads: int = 1


def is_main(workflow: Any) -> bool:
    """Whether this process leads the run; a cluster's jobs read the Snakefile, too."""
    return workflow.is_main_process


def is_started_by_cluster(workflow: Any) -> bool:
    """Whether a cluster started this process for a job, or for a group of them."""
    return workflow.remote_exec


def runs_here(workflow: Any) -> bool:
    """Whether jobs run on this machine, and not on a cluster."""
    return workflow.local_exec


def brings_environments(workflow: Any) -> bool:
    """Whether jobs run in environments of their own, by conda or in containers."""
    return bool(workflow.deployment_settings.deployment_method)


def given_files(workflow: Any) -> list[Path]:
    """The files given with ``--configfile``."""
    return [Path(file) for file in workflow.overwrite_configfiles]


def sources(workflow: Any) -> tuple[list[Path], dict[str, Any]]:
    """The files that the configuration is read from, and what ``--config`` gave."""
    return [Path(file) for file in workflow.configfiles], workflow.config_settings.config


def folder_of_snakefile(workflow: Any) -> Path:
    """Where the Snakefile lies that is being read, of a module, too."""
    return Path(str(workflow.current_basedir))


def resource(workflow: Any, name: str) -> int | str | None:
    """How much of a resource the run has (``--resources``); None if it was not said."""
    given = workflow.global_resources
    return given[name].value if name in given else None


def name_group(workflow: Any, group: str, name: str) -> None:
    """Let a profile call several groups by one name (``group-components``)."""
    workflow.parent_groupids[group] = name


def keep_going(workflow: Any) -> None:
    """In a process that a cluster started: the rest of a group goes on if one of its jobs fails.

    Such a process reads no profile, runs no hook and is not told of ``--keep-going``. It reads the
    Snakefile before it has a scheduler, so what every scheduler has by then is set here.
    """
    if is_started_by_cluster(workflow):
        JobScheduler.keepgoing = property(lambda _: True, lambda *_: None)


def jobs_to_do(workflow: Any) -> list[Job]:
    """The jobs that are not done yet."""
    return [_job(job) for job in workflow.dag.needrun_jobs()]


def jobs_of_run(workflow: Any) -> list[Job]:
    """All jobs that the targets need, done or not."""
    return [_job(job) for job in workflow.dag.jobs]


def settings_of_jobs(workflow: Any) -> dict[int, dict[str, Any]]:
    """Number of a job → what its parameter ``job`` holds; without those that have none."""
    return {
        job.jobid: json.loads(job.params["job"])
        for job in workflow.dag.jobs
        if "job" in job.params.keys()  # noqa: SIM118 - its `in` looks at values
    }


def failed_jobs(workflow: Any) -> list[Job]:
    """The jobs that failed for good; of a group all, as Snakemake does not say which."""
    return [_job(job) for failed in workflow.scheduler.failed for job in _members(failed)]


def slurm_run(workflow: Any) -> str | None:
    """The name of all jobs of this run in SLURM; None if it does not run there."""
    return getattr(workflow.scheduler._executor, "run_uuid", None)


def listen_to_slurm(
    workflow: Any, hear: Callable[[Iterable[Job], str, bool, tuple[str, ...]], None]
) -> None:
    """Be told of each submission that failed; the plugin tells its log alone.

    A group's log has not even the words.

    Parameters
    ----------
    workflow
        Snakemake's.
    hear
        Takes its jobs, the plugin's words, whether SLURM took it, and SLURM's logs of it.
    """
    if slurm_run(workflow) is None:
        return
    executor = workflow.scheduler._executor
    tell = executor.print_job_error

    def print_job_error(job_info: Any, msg: str | None = None, **options: Any) -> None:
        logs = tuple(map(str, options.get("aux_logs") or ()))
        taken = job_info.external_jobid is not None
        hear([_job(job) for job in _members(job_info.job)], msg or "", taken, logs)
        tell(job_info, msg, **options)

    executor.print_job_error = print_job_error


def _members(job: Any) -> Iterable[Any]:
    """The jobs of a group, or the one job."""
    return job.jobs if job.is_group() else [job]


def _job(job: Any) -> Job:
    return Job(
        job.jobid,
        job.rule.name,
        tuple(map(str, job.output)),
        str(job.log[0]) if job.log else "",
        str(job.benchmark or ""),
        job.threads,
    )
