# The benchmark: the engine's plain path against its fast one, scaling, KL against norm, and training
# in sequence. It is no part of `reproduce`. One job measures everything, so nothing else should run
# beside it.


use rule prepare_model as prepare_random_model with:
    wildcard_constraints:
        model="|".join(RANDOM_MODELS),
    params:
        spec=lambda w: as_json(RANDOM_MODELS[w.model]),


rule measure:
    input:
        lambda w: [
            f"resources/models/{name}" for name in models_of(BENCHMARKS[w.benchmark])
        ],
    output:
        table=f"{RESULTS}/{{benchmark}}.csv",
        summary=f"{RESULTS}/{{benchmark}}.txt",
    log:
        f"{RESULTS}/logs/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{benchmark}}.tsv"
    wildcard_constraints:
        benchmark="|".join(BENCHMARK_FILES),
    conda:
        "../../environment.yml"
    threads: lambda w: BENCHMARKS[w.benchmark]["threads"]
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
        gpu=lambda w: int(BENCHMARKS[w.benchmark]["device"] == "cuda"),
    params:
        job=benchmark_job,
    shell:
        "smedit job benchmark --job {params.job:q} --out {output.table} 2>&1 | tee {log}"


rule benchmark_figure:
    input:
        table=f"{RESULTS}/{{benchmark}}.csv",
    output:
        pictures=[f"{FIGURES}/{{benchmark}}-{{part}}.{suffix}" for suffix in SUFFIXES],
        caption=f"{FIGURES}/{{benchmark}}-{{part}}.txt",
    log:
        f"{RESULTS}/logs/{{benchmark}}-{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{benchmark}}-{{part}}.tsv"
    wildcard_constraints:
        benchmark="|".join(BENCHMARK_FILES),
        part="|".join(PARTS),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=5,
    shell:
        "python -m smedit.benchmark.figure --table {input.table} --part {wildcards.part}"
        " --out {output.pictures} --caption {output.caption} > {log} 2>&1"


rule bench:
    input:
        f"{RESULTS}/benchmark.txt",
        [
            f"{FIGURES}/benchmark-{part}.png"
            for part in parts_of(BENCHMARKS["benchmark"])
        ],


rule bench_gpu:
    input:
        f"{RESULTS}/benchmark-gpu.txt",
        [
            f"{FIGURES}/benchmark-gpu-{part}.png"
            for part in parts_of(BENCHMARKS["benchmark-gpu"])
        ],
