# Tidy tables from all results, the figures from the tables, and what they were made with.


rule tables_of_results:
    input:
        runs=[f"{RESULTS}/runs/{name}.json" for name in PLAN.runs],
        chosen=[f"{RESULTS}/chosen/{choice}.json" for choice in CHOICES],
        times=[path for path in [suite_path(BENCHMARK)] if path.is_file()],
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
        config=lambda w: in_order(config),
    shell:
        "smedit job tables --config {params.config:q} > {log} 2>&1"


rule figures_of_tables:
    input:
        [f"{RESULTS}/{table}.csv" for table in TABLES],
        f"{RESULTS}/tables.sha256",
    output:
        [
            f"{FIGURES}/{name}.{suffix}"
            for name in figures_of(PLAN.resolved())
            for suffix in SUFFIXES
        ],
        f"{RESULTS}/{CAPTIONS}",
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        config=lambda w: in_order(config),
    shell:
        "smedit job figures --config {params.config:q} > {log} 2>&1"


# One page that holds all it needs: verdicts first.
rule report_of_tables:
    input:
        [f"{RESULTS}/{table}.csv" for table in TABLES],
        f"{RESULTS}/tables.sha256",
        rules.figures_of_tables.output,
        f"{RESULTS}/provenance.json",
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(5),
    params:
        config=lambda w: in_order(config),
    shell:
        "smedit job report --config {params.config:q} > {log} 2>&1"


rule provenance:
    input:
        [f"{RESULTS}/{table}.csv" for table in TABLES],
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
        config=lambda w: in_order(config),
        results=lambda w: RESULTS,
    shell:
        "python {input.script} --config {params.config:q} --results {params.results}"
        " --out {output} > {log} 2>&1"
