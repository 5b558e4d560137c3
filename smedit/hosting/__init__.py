"""Whatever touches Snakemake's insides, processes or clusters."""
