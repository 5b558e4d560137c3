"""One's own facts in one's own model: what `smedit` offers to people, as functions and classes."""
