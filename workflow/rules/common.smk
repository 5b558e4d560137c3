# What several rules share: the settings of a job, as the command line takes them, and what it asks
# of the machine.


def one_of(names):
    """A pattern of wildcards: these names and no others."""
    return "|".join(map(re.escape, names)) or "none"


def needed_by_run(inputs):
    """The inputs of a run.

    None if its result comes from the repository. Where it has all that is asked for, they may have
    been made anew since: it stays. Others must be out of date as soon as an input is made: beside
    a job that is made anew, Snakemake looks at nothing that depends on it by `ancient` alone.
    """

    def found(w):
        if w.run in SETTLED:
            return []
        return ancient(inputs(w)) if w.run in WHOLE else inputs(w)

    return found


def files_of(dataset):
    """The files that hold a dataset."""
    return data_files(dataset, PLAN.datasets[dataset])


def frozen_file(run):
    """What a run needs of `freeze`, without suffix."""
    return f"{RESULTS}/frozen/{frozen_name(PLAN, PLAN.runs[run].settings)}"


def chosen_file(w):
    """The values that a search chooses for a run, if it has any chosen."""
    run = PLAN.runs[w.run]
    if run.chosen is None:
        return []
    return f"{RESULTS}/chosen/{run.chosen.search}_{run.settings.model}.json"


def job_of_run(w, output):
    """Settings of a run, and what is asked of it."""
    return as_json(run_job(PLAN, PLAN.runs[w.run], config["device"], Path(output[0])))


def as_json(value):
    """One line of canonical JSON for a command line."""
    return json.dumps(value, sort_keys=True)


def in_order(value):
    """One line of JSON that keeps the order of its keys: experiments are reported in theirs."""
    return json.dumps(value)


def on_gpus(command):
    """The shell command of a job that uses GPUs: on this machine it takes some of its own first.

    What SLURM starts has the GPUs that SLURM gave it.
    """
    n = config["gpus_per_job"]
    own = n and not is_started_by_cluster(workflow)
    return f"python -m smedit.hosting.gpu_slots {n} {command}" if own else command


def growing(amount):
    """A resource that grows with every attempt: a job that was killed for more is given more."""
    return lambda w, attempt: attempt * amount


def group_of_run(w):
    """The group of runs that may share a submission: of one model and dataset, so that none waits
    for another model, and none with those that wait for what they choose.
    """
    run = PLAN.runs[w.run]
    place = [run.settings.model, run.settings.dataset]
    group = "_".join(["runs", *place, run.chosen.search if run.chosen else ""])
    name_group(workflow, group, "runs")  # what a profile calls it
    return group


# A group asks for the time of all its jobs, and in a third attempt for three times that, so jobs of
# hours would ask for days. Without a limit on turns, a group would ask for the memory and the GPUs of
# all its jobs at once. Snakemake ignores groups in a run on this machine.
SHORT = config["minutes"] <= 60 and resource(workflow, "turn") is not None
