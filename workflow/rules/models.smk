# Language models: fetched, checked and converted once; their frozen part run once per dataset.


rule prepare_model:
    output:
        directory("resources/models/{model}"),
    log:
        f"{RESULTS}/logs/prepare_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_model/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(PLAN.models),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
    params:
        spec=lambda w: as_json(PLAN.models[w.model]),
    shell:
        "smedit job prepare-model --name {wildcards.model} --spec {params.spec:q} --out {output}"
        " > {log} 2>&1"


rule freeze:
    input:
        model=lambda w: model_folder(FROZEN[w.frozen].model),
        # A dataset that changed is frozen anew.
        data=lambda w: files_of(FROZEN[w.frozen].dataset),
    output:
        states=f"{RESULTS}/frozen/{{frozen}}.safetensors",
        before=f"{RESULTS}/frozen/{{frozen}}.json",
    log:
        f"{RESULTS}/frozen/{{frozen}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/freeze/{{frozen}}.tsv"
    wildcard_constraints:
        frozen=one_of(FROZEN),
    conda:
        "../../environment.yml"
    threads: lambda w: FROZEN[w.frozen].threads
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
    params:
        job=lambda w, output: as_json(
            freeze_job(PLAN, w.frozen, config["device"], Path(output.before))
        ),
    shell:
        on_gpus(
            "smedit job freeze --job {params.job:q} --out {output.states} --before {output.before}"
            " > {log} 2>&1"
        )
