# Tidy tables from all result files, and what they were made with.


rule tables_of_results:
    input:
        cells=[
            f"{RESULTS}/cells/{cell_path(cell)}.json"
            for cell in grid_cells(config).to_dict("records")
        ],
        tuning=[
            f"{RESULTS}/tuning/{cell_path(cell)}.json"
            for cell in tuning_cells(config).to_dict("records")
        ],
        script=SCRIPTS / "collect_tables.py",
    output:
        [f"{RESULTS}/{table}.csv" for table in TABLES],
        f"{RESULTS}/tables.sha256",
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
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


rule provenance:
    input:
        [f"{RESULTS}/{table}.csv" for table in TABLES + STREAM_TABLES],
        script=SCRIPTS / "write_provenance.py",
    output:
        f"{RESULTS}/provenance.json",
    log:
        f"{RESULTS}/logs/provenance.log",
    benchmark:
        f"{RESULTS}/benchmarks/provenance.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        config=lambda w: as_json(config),
        results=lambda w: RESULTS,
    shell:
        "python {input.script} --config {params.config:q} --results {params.results}"
        " --out {output} > {log} 2>&1"
