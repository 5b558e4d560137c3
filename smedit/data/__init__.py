"""Requests, the formats of datasets, splits, and the built-in facts."""
