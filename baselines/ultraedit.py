"""UltraEdit (arXiv 2505.14679): least squares on standardized gradients, one step, no training."""

from smedit.method import Method

ULTRAEDIT = Method(
    name="UltraEdit",
    shift_rule="standardized_least_squares",
    bp_steps=1,
    locality="none",
    rank=0,
    n_blocks=0,
    stream_training="none",
    for_batches=False,
)
