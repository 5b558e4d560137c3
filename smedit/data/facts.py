"""What a fact to edit is, and what a dataset is once it is read (the benchmark's data model).

An edit request holds one prompt to edit, its paraphrases and its locality prompts, whatever
dataset it came from. `smedit.data.readers` makes them, `smedit.data.splits` splits them. Imports
nothing heavy, so the workflow can load it before any job starts.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

UNSPLIT = "file"
"""Stands for the split of a row that was left out before its file was cut into splits."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, the answer it is scored on, and (CounterFact) the answer that competes with it.

    Parameters
    ----------
    text : str
        The prompt, without a trailing space.
    answer : str
        The answer, without a leading space.
    other_answer : str or None, default None
        The competing answer; None for ZsRE, where a score needs only one answer.
    between : str, default " "
        What stands between the prompt and its answers: a space, or nothing.
    """

    text: str
    answer: str
    other_answer: str | None = None
    between: str = " "


@dataclass(frozen=True)
class EditRequest:
    """One fact to edit, with the prompts that measure what the edit did.

    Parameters
    ----------
    subject : str
        Whom or what the fact is about.
    edit : Prompt
        The prompt and the answer that the model shall give from now on.
    paraphrases : tuple of Prompt
        The same request in other words, at least one. They measure generalization.
    locality : tuple of Prompt
        Prompts whose answers must not change. They measure specificity, and the KL loss needs
        them. None where another split holds all of them.
    true_answer : str or None
        What the world says. None where the file does not hold it.
    """

    subject: str
    edit: Prompt
    paraphrases: tuple[Prompt, ...]
    locality: tuple[Prompt, ...]
    true_answer: str | None


@dataclass(frozen=True)
class Tally:
    """How many rows or prompts of a split have something in common, such as being left out.

    Parameters
    ----------
    split : str
        ``train``, ``tune`` or ``eval``; `UNSPLIT` for a row of a file that was cut afterwards.
    reason : str
        What they have in common, in plain words.
    rows : int, default 0
        How many rows.
    prompts : int, default 0
        How many locality prompts; those of ``rows`` are not counted.
    first : str, default ""
        The first of them, for messages.
    """

    split: str
    reason: str
    rows: int = 0
    prompts: int = 0
    first: str = field(default="", compare=False)

    def __str__(self) -> str:
        counts = {"row": self.rows, "locality prompt": self.prompts}
        counted = [f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items() if n]
        return f"{' and '.join(counted)}: {self.reason}"


@dataclass(frozen=True)
class Splits:
    """Three lists of requests that share no subject, and what became of the other rows.

    Parameters
    ----------
    train : tuple of EditRequest
        For meta-training.
    tune : tuple of EditRequest
        For choosing hyperparameters; never reported on.
    eval : tuple of EditRequest
        For the scores that are reported.
    left_out : tuple of Tally
        The rows and prompts that the files hold and the splits do not.
    contradictions : tuple of Tally
        The rows and prompts of a split that ask for two answers to one prompt.
    shares : mapping of str to float
        Split → its share of the subjects, for the splits that were cut from one file.
    """

    train: tuple[EditRequest, ...]
    tune: tuple[EditRequest, ...]
    eval: tuple[EditRequest, ...]
    left_out: tuple[Tally, ...] = ()
    contradictions: tuple[Tally, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, tuple[EditRequest, ...]]:
        """Name of a split → its requests."""
        return {"train": self.train, "tune": self.tune, "eval": self.eval}

    def why(self, split: str) -> str:
        """Why a split has no more rows, in parentheses, for a message; empty if it has all."""
        files = {split, UNSPLIT} if split in self.shares else {split}
        out = "; ".join(str(tally) for tally in self.left_out if tally.split in files)
        cut = ", ".join(f"{100 * share:.3g} % are {part}" for part, share in self.shares.items())
        reasons = [f"of the subjects of its file {cut}"] if split in self.shares else []
        reasons += [f"left out: {out}"] if out else []
        return f" ({'; '.join(reasons)})" if reasons else ""


def text_key(text: str) -> str:
    """Return the form in which subjects and prompts are compared: any case, spacing, encoding.

    One text can be encoded in several ways, as an accented letter or as a letter and its accent.

    Parameters
    ----------
    text : str
        A subject or a prompt as the dataset writes it.

    Returns
    -------
    str
        The same text, composed (Unicode's NFC), case-folded, with every run of spaces made one.
    """
    return unicodedata.normalize("NFC", " ".join(text.split()).casefold())
