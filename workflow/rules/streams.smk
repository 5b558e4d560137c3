# Sequential editing: one stream, one job, one result file; and the search for its hyperparameters.
# While a stream runs, its state lies beside its result (.checkpoint); a run that was interrupted
# goes on from there.


rule tune_stream:
    input:
        model="resources/models/{model}",
        states=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{config['seeds'][0]}.safetensors",
        before=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{config['seeds'][0]}.json",
    output:
        f"{RESULTS}/sequential/tuning/{STREAM_TUNING.wildcard_pattern}.json",
    log:
        f"{RESULTS}/logs/sequential/tuning/{STREAM_TUNING.wildcard_pattern}.log",
    benchmark:
        f"{RESULTS}/benchmarks/stream_tuning/{STREAM_TUNING.wildcard_pattern}.tsv"
    group:
        shared("stream_search_{model}_{dataset}")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
        turn=turn,
    params:
        job=lambda w: as_json(stream_tuning_job(config, typed(w, STREAM_TUNING))),
    shell:
        on_gpus(
            "smedit run-stream --job {params.job:q} --states {input.states} --before {input.before}"
            " --out {output} > {log} 2>&1"
        )


rule choose_for_streams:
    input:
        results=lambda w: [
            f"{RESULTS}/sequential/tuning/{cell_path(cell)}.json"
            for cell in stream_tuning_cells(config).to_dict("records")
            if cell["model"] == w.model
        ],
    output:
        f"{RESULTS}/sequential/tuning/chosen/{{model}}.json",
    log:
        f"{RESULTS}/logs/sequential/choose/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/stream_choose/{{model}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    shell:
        "smedit choose --streams --results {input.results} --model {wildcards.model}"
        " --out {output} > {log} 2>&1"


rule stream:
    input:
        model="resources/models/{model}",
        states=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.safetensors",
        before=f"{RESULTS}/frozen/{{model}}/{{dataset}}/seed~{{seed}}.json",
        chosen=f"{RESULTS}/sequential/tuning/chosen/{{model}}.json",
    output:
        f"{RESULTS}/sequential/streams/{STREAMS.wildcard_pattern}.json",
    log:
        f"{RESULTS}/logs/sequential/streams/{STREAMS.wildcard_pattern}.log",
    benchmark:
        f"{RESULTS}/benchmarks/streams/{STREAMS.wildcard_pattern}.tsv"
    group:
        shared("streams_{model}_{dataset}")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=growing(config["memory_mb"]),
        runtime=growing(config["minutes"]),
        gpu=config["gpus_per_job"],
        turn=turn,
    params:
        job=lambda w: as_json(stream_job(config, typed(w, STREAMS))),
    shell:
        on_gpus(
            "smedit run-stream --job {params.job:q} --states {input.states} --before {input.before}"
            " --chosen {input.chosen} --out {output} > {log} 2>&1"
        )


rule stream_tables:
    input:
        streams=[
            f"{RESULTS}/sequential/streams/{cell_path(cell)}.json"
            for cell in stream_cells(config).to_dict("records")
        ],
        tuning=[
            f"{RESULTS}/sequential/tuning/{cell_path(cell)}.json"
            for cell in stream_tuning_cells(config).to_dict("records")
        ],
        script=SCRIPTS / "collect_streams.py",
        parts=SCRIPTS / "collect_tables.py",
    output:
        [f"{RESULTS}/{table}.csv" for table in STREAM_TABLES],
        f"{RESULTS}/sequential.sha256",
    log:
        f"{RESULTS}/logs/sequential/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/stream_tables.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        config=lambda w: as_json(config),
        results=lambda w: RESULTS,
    shell:
        "python {input.script} --config {params.config:q} --out {params.results}"
        " > {log} 2>&1"
