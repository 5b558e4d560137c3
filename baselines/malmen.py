"""MALMEN (Tan et al., ICLR 2024, arXiv 2311.04661): least squares, one step, KL."""

from smedit.methods import Method

MALMEN = Method(
    name="MALMEN", shift_rule="least_squares", bp_steps=1, locality="kl", rank=1024, n_blocks=4
)
