"""What people's functions and commands do where nothing else is said. Imports nothing."""

METHOD = "SMEdit"

TRAIN_ON = "worldfacts-qa"
"""Where an editor is trained: the suite's own facts."""

BATCHES, N_EDITS = 5, 32
"""How much: the study's size (`config/reference.yaml`)."""

PRECISION = "float32"
"""Of a model's weights."""

EDITED, EDITOR = "smedit/edit.json", "editor.safetensors"
"""The file by which the folder of an edited model, or of an editor, is known."""

HARM_AT_MOST = 0.5
"""Nats per token: the bound of the study's comparison (`workflow/claims.yaml`)."""
