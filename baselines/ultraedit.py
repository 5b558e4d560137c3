"""UltraEdit (arXiv 2505.14679): least squares on standardized gradients, one step, no training."""

from smedit.methods import Method

ULTRAEDIT = Method(
    name="UltraEdit",
    shift_rule="standardized_least_squares",
    bp_steps=1,
    locality="none",
    training="none",
)
