"""MEND (Mitchell et al., ICLR 2022, arXiv 2110.11309): outer products, one step, KL."""

from smedit.methods import Method

MEND = Method(
    name="MEND", shift_rule="outer_product", bp_steps=1, locality="kl", rank=1920, n_blocks=2
)
