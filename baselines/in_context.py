"""The new fact in front of the question, for comparison; see `smedit.engine.in_context`."""

from smedit.methods import IN_CONTEXT, Method

CONTEXT = Method(
    name="In context", shift_rule=IN_CONTEXT, bp_steps=1, locality="none", training="none"
)
