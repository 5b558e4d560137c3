# What several rules share: the settings of a job, as the command line takes them, and what it asks
# of the machine.


def typed(wildcards, space):
    """A cell's settings from its wildcards, with the types of the grid's columns."""
    types = space.dataframe.dtypes
    return {
        name: (
            kind.type(wildcards[name]).item() if kind.kind in "if" else wildcards[name]
        )
        for name, kind in types.items()
    }


def as_json(value):
    """One line of canonical JSON for a command line."""
    return json.dumps(value, sort_keys=True)


def on_gpus(command):
    """The shell command of a job that uses GPUs: on this machine it takes some of its own first.

    What SLURM starts has the GPUs that SLURM gave it.
    """
    n = config["gpus_per_job"]
    own = n and not workflow.remote_exec
    return f"python -m smedit.hosting.gpu_slots {n} {command}" if own else command


def growing(amount):
    """A resource that grows with every attempt: a job that was killed for more is given more."""
    return lambda w, attempt: attempt * amount


def shared(group):
    """The group of jobs that may share a submission, if they are short and can take turns.

    A group asks for the time of all its jobs, and in a third attempt for three times that, so jobs
    of hours would ask for days. Without a limit on turns, a group would ask for the memory and the
    GPUs of all its jobs at once. Snakemake ignores groups in a run on this machine.
    """
    short = config["minutes"] <= 60
    return group if short and "turn" in workflow.global_resources else None


def turn(w):
    """A resource that a group of jobs has once: they take turns (workflow/profiles/slurm).

    The process that SLURM starts for a group does not learn of `keep-going` from Snakemake, but
    only the jobs of groups ask for a turn, and there it can be told: a job that fails should not
    keep the rest of its group from running.
    """
    if workflow.remote_exec and workflow.scheduler is not None:
        workflow.scheduler.keepgoing = True
    return 1
