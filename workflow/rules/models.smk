# Language models: fetched, checked and converted once; their frozen part run once per dataset.


rule prepare_model:
    output:
        directory("resources/models/{model}"),
    log:
        f"{RESULTS}/logs/prepare_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_model/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(config["models"]),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
    params:
        spec=lambda w: as_json(config["models"][w.model]),
    shell:
        "smedit prepare-model --name {wildcards.model} --spec {params.spec:q} --out {output}"
        " > {log} 2>&1"


rule freeze:
    input:
        model="resources/models/{model}",
        # A dataset that changed is frozen anew, and with it all that was made from its rows.
        data=lambda w: data_files(w.dataset, config["datasets"][w.dataset]),
    output:
        states=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.safetensors",
        before=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.json",
    log:
        f"{RESULTS}/logs/freeze/{{model}}/{{dataset}}/seed~{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/freeze/{{model}}/{{dataset}}/seed~{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
    params:
        job=lambda w: as_json(freeze_job(config, w.model, w.dataset, int(w.seed))),
    shell:
        on_gpus(
            "smedit freeze --job {params.job:q} --out {output.states} --before {output.before}"
            " > {log} 2>&1"
        )
