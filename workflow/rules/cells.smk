# The grid: one cell, one job, one result file that holds all its settings.


rule cell:
    input:
        model="resources/models/{model}",
        states=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.safetensors",
        before=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.json",
        chosen=f"{RESULTS}/tuning/chosen/{{model}}.json",
    output:
        f"{RESULTS}/cells/{CELLS.wildcard_pattern}.json",
    log:
        f"{RESULTS}/logs/cells/{CELLS.wildcard_pattern}.log",
    benchmark:
        f"{RESULTS}/benchmarks/cells/{CELLS.wildcard_pattern}.tsv"
    group:
        shared("cells_{model}_{dataset}")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
        turn=turn,
    params:
        job=lambda w: as_json(cell_job(config, typed(w, CELLS))),
    shell:
        on_gpus(
            "smedit run-cell --job {params.job:q} --states {input.states} --before {input.before}"
            " --chosen {input.chosen} --out {output} > {log} 2>&1"
        )
