# The search for each model's hyperparameters, on the tune split.


rule tune_cell:
    input:
        model="resources/models/{model}",
        states=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{config['seeds'][0]}.safetensors",
        before=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{config['seeds'][0]}.json",
    output:
        f"{RESULTS}/tuning/{TUNING.wildcard_pattern}.json",
    log:
        f"{RESULTS}/logs/tuning/{TUNING.wildcard_pattern}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tuning/{TUNING.wildcard_pattern}.tsv"
    group:
        shared("search_{model}_{dataset}")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
        turn=turn,
    params:
        job=lambda w: as_json(tuning_job(config, typed(w, TUNING))),
    shell:
        on_gpus(
            "smedit run-cell --job {params.job:q} --states {input.states} --before {input.before}"
            " --out {output} > {log} 2>&1"
        )


rule choose:
    input:
        results=lambda w: [
            f"{RESULTS}/tuning/{cell_path(cell)}.json"
            for cell in tuning_cells(config).to_dict("records")
            if cell["model"] == w.model
        ],
    output:
        f"{RESULTS}/tuning/chosen/{{model}}.json",
    log:
        f"{RESULTS}/logs/choose/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose/{{model}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    shell:
        "smedit choose --results {input.results} --model {wildcards.model}"
        " --out {output} > {log} 2>&1"
