# The figures, from the tables alone.

# Figure: the experiment that it shows. A configuration without the experiment has no such figure.
FIGURE_EXPERIMENTS = {
    "data_size": "data_size",
    "step_time": "data_size",
    "mbps_gain": "data_size",
    "tradeoff": "data_size",
    "train_batches": "train_batches",
    "inner_steps": "inner_steps",
    "adam_repeats": "adam_repeats",
}
# The same for the experiments of sequential editing.
STREAM_FIGURE_EXPERIMENTS = {
    "retention": "comparison",
    "stream_scores": "comparison",
    "stream_model": "comparison",
    "stream_gains": "comparison",
    "stream_seconds": "comparison",
    "stream_bp_steps": "bp_steps",
    "stream_shapes": "shapes",
    "stream_passes": "passes",
    "long_stream": "long_stream",
}
FIGURE_NAMES = [
    name
    for known, experiments in (
        (FIGURE_EXPERIMENTS, config["experiments"]),
        (
            STREAM_FIGURE_EXPERIMENTS,
            config.get("sequential", {}).get("experiments", {}),
        ),
    )
    for name, experiment in known.items()
    if experiment in experiments
]


rule figures_of_tables:
    input:
        tables=[
            f"{RESULTS}/{table}.csv"
            for table in (
                *("scores", "gains", "timings", "experiments"),
                *("sequential", "sequential_gains", "sequential_timings"),
                "sequential_experiments",
            )
        ],
        sums=[f"{RESULTS}/tables.sha256", f"{RESULTS}/sequential.sha256"],
        script=SCRIPTS / "draw_figures.py",
        parts=[
            SCRIPTS / f"figures_{part}.py"
            for part in (
                *("data", "mbps", "panels", "scores", "style", "times"),
                *("streams", "streams_ends", "streams_gains"),
                *("streams_panels", "streams_seconds"),
            )
        ],
    output:
        [
            f"{FIGURES}/{name}.{suffix}"
            for name in FIGURE_NAMES
            for suffix in ("png", "pdf")
        ],
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        names=FIGURE_NAMES,
        results=lambda w: RESULTS,
        figures=lambda w: FIGURES,
    shell:
        "python {input.script} --results {params.results} --out {params.figures}"
        " --figures {params.names} > {log} 2>&1"
