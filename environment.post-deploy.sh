# Installs the suite into the conda environment that is active. Snakemake runs a copy of this file,
# and has named the suite's folder in SMEDIT_SUITE; else it is the working folder.
set -eu  # Snakemake runs it by sh
cd "${SMEDIT_SUITE:-.}"
pip install -q -c constraints.txt "$(grep '^torch==' constraints.txt)"
pip install -q -c constraints.txt -e .
