"""SMEdit (arXiv 2508.04012): least squares, two steps (MBPS), the norm in place of KL."""

from smedit.methods import Method

SMEDIT = Method(
    name="SMEdit",
    shift_rule="least_squares",
    bp_steps=2,
    locality="norm",
    rank=1024,
    n_blocks=4,
    training="in_sequence",
)
