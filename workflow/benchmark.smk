# Entry of the benchmark (`make bench`), apart from the suite's: a run of the suite neither checks
# nor needs any of it. Targets: bench, bench_gpu.


configfile: "config/config.yaml"


include: "suite.smk"
include: "rules/benchmark.smk"
