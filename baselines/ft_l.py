"""FT-L (arXiv 2012.00363, as in ROME): one layer, 25 steps of Adam, a bound on every entry.

Its steps are gradient steps; no hypernetwork, no training and no locality loss.
"""

from smedit.method import Method

FT_L = Method(
    name="FT-L",
    shift_rule="fine_tuning",
    bp_steps=25,
    locality="none",
    rank=0,
    n_blocks=0,
    stream_training="none",
    for_batches=False,
)
