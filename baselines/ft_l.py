"""FT-L (arXiv 2012.00363, as in ROME): one layer, 25 steps of Adam, a bound on every entry.

Its steps are gradient steps; no hypernetwork, no training and no locality loss.
"""

from smedit.methods import FINE_TUNING, Method

FT_L = Method(
    name="FT-L", shift_rule=FINE_TUNING, bp_steps=25, locality="none", training="none", lr=5e-4
)
