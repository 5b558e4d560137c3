"""RLEdit (arXiv 2502.05759): least squares, one step, KL, trained on a stream that looks back."""

from smedit.methods import Method

RLEDIT = Method(
    name="RLEdit",
    shift_rule="least_squares",
    bp_steps=1,
    locality="kl",
    rank=1024,
    n_blocks=4,
    training="in_sequence",
    back_depth=10,
)
