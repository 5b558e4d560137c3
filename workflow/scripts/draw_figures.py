"""The tables in ``results/`` → every figure, as PNG and PDF. Never imports torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from figures_data import (
    REQUIRED,
    REQUIRED_OF_STREAMS,
    StreamTables,
    Tables,
    read_stream_tables,
    read_tables,
)
from figures_mbps import adam_repeats, mbps_gain
from figures_scores import data_size, inner_steps, tradeoff, train_batches
from figures_streams import long_stream, retention, stream_model, stream_scores
from figures_streams_ends import stream_bp_steps, stream_passes, stream_shapes
from figures_streams_gains import stream_gains
from figures_streams_seconds import stream_seconds
from figures_style import save, theme
from figures_times import step_time
from smedit.errors import with_status
from smedit.store.sums import check_sums

FIGURES: dict[str, Callable[[Tables], Figure]] = {
    "data_size": data_size,
    "train_batches": train_batches,
    "inner_steps": inner_steps,
    "adam_repeats": adam_repeats,
    "step_time": step_time,
    "mbps_gain": mbps_gain,
    "tradeoff": tradeoff,
}
STREAM_FIGURES: dict[str, Callable[[StreamTables], Figure]] = {
    "retention": retention,
    "stream_scores": stream_scores,
    "stream_model": stream_model,
    "stream_gains": stream_gains,
    "stream_seconds": stream_seconds,
    "stream_bp_steps": stream_bp_steps,
    "stream_shapes": stream_shapes,
    "stream_passes": stream_passes,
    "long_stream": long_stream,
}
DPI = 150


def stream_tables(results: Path, names: Sequence[str]) -> list[str]:
    """The tables of streams to read.

    A folder may have scores without seconds; of all figures, `stream_seconds` alone needs these.
    """
    seconds = "stream_seconds" in names or (results / "sequential_timings.csv").exists()
    return [table for table in REQUIRED_OF_STREAMS if seconds or table != "sequential_timings"]


def draw(results: Path, out: Path, names: Sequence[str] = tuple(FIGURES), dpi: int = DPI) -> None:
    """Draw figures and write each as ``NAME.png`` and ``NAME.pdf``.

    Parameters
    ----------
    results
        The folder of the tables.
    out
        The folder to write to; made if it is not there.
    names
        Keys of `FIGURES`, which is the default, or of `STREAM_FIGURES`.
    dpi
        Dots per inch of the PNGs, default 150.

    Raises
    ------
    UserError
        If a table or column is missing, or an experiment that a named figure shows. Nothing is
        written then.
    """
    of_streams = [name for name in names if name in STREAM_FIGURES]
    figures: dict[str, Figure] = {}
    with theme():
        if len(names) > len(of_streams):
            tables = read_tables(results)
            figures |= {name: FIGURES[name](tables) for name in names if name in FIGURES}
        if of_streams:
            streams = read_stream_tables(results, stream_tables(results, of_streams))
            figures |= {name: STREAM_FIGURES[name](streams) for name in of_streams}
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix in ("png", "pdf"):
                save(figure, out / f"{name}.{suffix}", dpi)


@with_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--figures", nargs="+", choices=[*FIGURES, *STREAM_FIGURES], required=True)
    options = parser.parse_args(arguments)
    if set(FIGURES) & set(options.figures):
        check_sums(options.results / "tables.sha256", REQUIRED)
    if set(STREAM_FIGURES) & set(options.figures):
        check_sums(
            options.results / "sequential.sha256", stream_tables(options.results, options.figures)
        )
    draw(options.results, options.out, options.figures)


if __name__ == "__main__":
    sys.exit(main())
