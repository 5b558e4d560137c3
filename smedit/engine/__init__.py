"""Tensors only: language model, tracing, hypernetwork, shift rules, editor, training, scores."""
