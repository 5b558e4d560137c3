"""The command line, ``smedit --help``: people's commands, and the workflow's steps as ``job``."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version as metadata_version
from typing import Annotated, Any

from typer import Exit, Option, Typer
from typer.exceptions import TyperException
from typer.main import get_command

from smedit.cli import job, people
from smedit.errors import INTERRUPTED, UserError, message

INTERRUPTED_STATUS = 130
AT_ONCE = ("edit", "train")
"""Commands that write at their end alone."""

PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}

app = Typer(no_args_is_help=True, invoke_without_command=True, **PLAIN)


@app.callback()
def of_all(
    version: Annotated[bool, Option("--version", help="say which version this is")] = False,
) -> None:
    """Edit facts in a language model, and measure it."""
    if version:
        print(metadata_version("smedit"))
        raise Exit


for name, command in people.COMMANDS.items():
    app.command(name, no_args_is_help=name != "show")(command)
jobs = Typer(no_args_is_help=True, help="What the workflow's rules call.", **PLAIN)
jobs.callback()(job.say_where)
for name, command in job.COMMANDS.items():
    jobs.command(name)(command)
app.add_typer(jobs, name="job")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it ended well, 2 after one clear line on bad input or a failed run."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level="WARNING")
    logging.getLogger("smedit").setLevel("INFO")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = get_command(app).main(given, prog_name="smedit", standalone_mode=False, obj=given)
        if status == INTERRUPTED_STATUS:
            known = {
                "job": INTERRUPTED,
                **dict.fromkeys(AT_ONCE, "interrupted; nothing was written"),
            }
            print(known.get(given[0] if given else "", "interrupted"), file=sys.stderr)
        return status or 0
    except job.Forwarded as done:
        return done.status
    except TyperException as error:
        print(_usage(error, given), file=sys.stderr)
    except (UserError, OSError) as error:
        print(f"error: {message(error)}", file=sys.stderr)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or "no memory left"
        remedy = "use fewer edits, a smaller model or a machine with more memory"
        print(f"error: {reason}; {remedy}", file=sys.stderr)
    return 2


def _usage(error: TyperException, given: Sequence[str]) -> str:
    """What is wrong with a command, or its help if nothing was given."""
    text = str(error.format_message())
    if text.startswith("Usage: "):
        return text
    names = 2 if given[:1] == ["job"] else 1
    if text.startswith("No such command"):
        names -= 1
    command = " ".join(["smedit", *(word for word in given[:names] if not word.startswith("-"))])
    text = re.sub("Invalid value for '(.*?)': ", r"\1: ", text.rstrip("."))
    return f"error: {text}; {command} --help says what there is"


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch says so with an error of a general kind."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


if __name__ == "__main__":
    sys.exit(main())
