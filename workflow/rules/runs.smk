# The one kind of run: an editor is trained once and measured in all that is asked of it. Its log
# lies beside its result, and while it runs its checkpoint: a run that was interrupted goes on there.


rule run:
    input:
        # What a run is stands in its name: its model's source, and how a search's values are chosen.
        # So a whole result stays, though the model is fetched or the values chosen later; frozen
        # anew for more rows, the others' numbers stay.
        model=needed_by_run(lambda w: model_folder(PLAN.runs[w.run].settings.model)),
        states=needed_by_run(lambda w: f"{frozen_file(w.run)}.safetensors"),
        before=needed_by_run(lambda w: f"{frozen_file(w.run)}.json"),
        data=needed_by_run(lambda w: files_of(PLAN.runs[w.run].settings.dataset)),
        chosen=needed_by_run(chosen_file),
    output:
        f"{RESULTS}/runs/{{run}}.json",
    log:
        f"{RESULTS}/runs/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/runs/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(PLAN.runs),
    group:
        group_of_run if SHORT else None
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.runs[w.run].settings.threads
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
        turn=1,  # a group has one: its jobs take turns (workflow/profiles/slurm)
    params:
        job=job_of_run,
        chosen=lambda w, input: f"--chosen {input.chosen}" if input.chosen else "",
    shell:
        on_gpus(
            "smedit job run --job {params.job:q} --states {input.states} --before {input.before}"
            " {params.chosen} --out {output} > {log} 2>&1"
        )


# What a search chooses on one model, from the runs that it measured on `tune` rows.
rule choose:
    input:
        results=lambda w: [
            f"{RESULTS}/runs/{name}.json" for name in CHOICES[w.choice].runs
        ],
    output:
        f"{RESULTS}/chosen/{{choice}}.json",
    log:
        f"{RESULTS}/chosen/{{choice}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose/{{choice}}.tsv"
    wildcard_constraints:
        choice=one_of(CHOICES),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        config=lambda w: in_order(config),
        search=lambda w: CHOICES[w.choice].name,
        model=lambda w: CHOICES[w.choice].model,
    shell:
        "smedit job choose --config {params.config:q} --search {params.search}"
        " --model {params.model} --out {output} > {log} 2>&1"
