"""SMEdit (arXiv 2508.04012) and the engine on which every compared method runs.

The functions for people, which load PyTorch only when they are used::

    import smedit

    model = smedit.load_model("smollm2-135m")
    editor = smedit.train_editor(model, "worldfacts-qa", method="SMEdit", batches=5)
    edited = editor.edit(model, [smedit.fact("The capital of Australia is", "Perth")])
    edited.score(), edited.harm, edited.generate("The capital of Australia is")
    edited.save_pretrained("edited/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smedit.data.fact_files import FactFile, fact, read_facts
    from smedit.data.facts import EditRequest, Prompt
    from smedit.editing.edited import EditedModel, load_edited
    from smedit.editing.editors import TrainedEditor, load_editor, train_editor
    from smedit.editing.models import BaseModel, load_model
    from smedit.errors import UserError

__all__ = [
    "BaseModel",
    "EditRequest",
    "EditedModel",
    "FactFile",
    "Prompt",
    "TrainedEditor",
    "UserError",
    "fact",
    "load_edited",
    "load_editor",
    "load_model",
    "read_facts",
    "train_editor",
]

_HOMES = {
    "smedit.data.fact_files": ("FactFile", "fact", "read_facts"),
    "smedit.data.facts": ("EditRequest", "Prompt"),
    "smedit.editing.edited": ("EditedModel", "load_edited"),
    "smedit.editing.editors": ("TrainedEditor", "load_editor", "train_editor"),
    "smedit.editing.models": ("BaseModel", "load_model"),
    "smedit.errors": ("UserError",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
