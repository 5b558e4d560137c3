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
FIGURE_NAMES = [
    name
    for name, experiment in FIGURE_EXPERIMENTS.items()
    if experiment in config["experiments"]
]


rule figures_of_tables:
    input:
        tables=[
            f"{RESULTS}/{table}.csv"
            for table in ("scores", "gains", "timings", "experiments")
        ],
        script=SCRIPTS / "draw_figures.py",
        parts=[
            SCRIPTS / f"figures_{part}.py"
            for part in ("data", "mbps", "panels", "scores", "style", "times")
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
        mem_mb=2000,
        runtime=10,
    params:
        names=FIGURE_NAMES,
        results=lambda w: RESULTS,
        figures=lambda w: FIGURES,
    shell:
        "python {input.script} --results {params.results} --out {params.figures}"
        " --figures {params.names} > {log} 2>&1"
