"""What a run of the workflow prints: how far it is, what fails, and where to look.

A logger of Snakemake's (``logger: smedit`` in a profile). All that Snakemake says goes to its file
in ``.snakemake/log/``, as ever. A dry run, and a run with ``--printshellcmds``, ``--verbose`` or
``--debug-dag``, prints as Snakemake does.

Warning
-------
The fields of Snakemake's log records, and its handler, filter and formatter, are borrowed: see
`smedit.hosting.borrowed`.
"""

from __future__ import annotations

import logging
import sys
import textwrap
import time
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from smedit.hosting import progress

PAUSE = 60.0
"""Seconds between two lines of progress, at least: a screen in ten minutes."""

LONGEST = 300
"""Characters of a line that are printed; a job's settings are longer."""

TOLD = (
    "Nothing to be done",
    "SLURM run ID",
    "Trying to restart job",
    "Will exit after",
    "Shutting down",
    "Complete log",
)
"""Beginnings of what Snakemake says on the way that a person needs."""


class LogHandler(LogHandlerBase):
    """Prints little; see this module's docstring."""

    def __post_init__(self) -> None:
        given = self.common_settings
        quiet: Any = given.quiet or set()
        self._as_snakemake = ColorizingTextHandler(
            nocolor=given.nocolor,
            stream=sys.stdout if given.stdout else sys.stderr,
            filter=DefaultFilter(
                quiet, given.debug_dag, given.verbose, given.dryrun, given.printshellcmds
            ),
            formatter=DefaultFormatter(quiet, given.show_failed_logs),
        )
        self._at_length = given.dryrun or given.verbose or given.debug_dag or given.printshellcmds
        self._started = False
        self._next_line = time.time() + PAUSE

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record says, if a person needs it."""
        try:
            self._take(record, getattr(record, "event", None))
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord, event: LogEvent | None) -> None:
        self._started |= event == LogEvent.WORKFLOW_STARTED
        if self._at_length or not self._started:
            self._as_snakemake.handle(record)
        elif self._as_snakemake.filter(record):
            self._print(self._short(record, event))
        self._follow(record, event)

    def _short(self, record: logging.LogRecord, event: LogEvent | None) -> str:
        if event == LogEvent.JOB_ERROR:
            return _failed(record)
        if event == LogEvent.GROUP_ERROR:
            return f"failed: a group of jobs; {' '.join(record.aux_logs)}"
        if event == LogEvent.ERROR and "CalledProcessError" in record.getMessage():
            return ""  # the job's own error says more
        text = record.getMessage() if record.msg else ""
        wanted = record.levelno >= logging.WARNING or (event is None and text.startswith(TOLD))
        return text if wanted else ""

    def _follow(self, record: logging.LogRecord, event: LogEvent | None) -> None:
        """Count jobs, and print how far the run is, if the last time was a while ago."""
        far, now = progress.current, time.time()
        if far is None:
            return
        if event == LogEvent.JOB_INFO:
            far.start(record.jobid, now)
        elif event == LogEvent.JOB_ERROR:
            far.fail(record.jobid, now)
        elif event == LogEvent.JOB_FINISHED:
            far.end(record.job_id, now)
            if now >= self._next_line and not self._at_length and len(far.took) < len(far.pieces):
                self._next_line = now + PAUSE
                self._print(f"{time.strftime('%H:%M:%S')} {progress.line(far, now)}")

    def _print(self, text: str) -> None:
        if text:
            cut = (
                f"{line[:LONGEST]}…" if len(line) > LONGEST else line for line in text.split("\n")
            )
            self._as_snakemake.stream.write("\n".join(cut) + "\n")
            self._as_snakemake.stream.flush()

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False


def _failed(record: logging.LogRecord) -> str:
    """A job that failed: its rule, what it should have made, why, and where its log is."""
    lines = [f"failed: {record.rule_name} → {', '.join(record.output)}"]
    if record.rule_msg:
        lines.append(textwrap.indent(str(record.rule_msg), "  "))
    return "\n".join([*lines, *(f"  log: {path}" for path in record.log)])
