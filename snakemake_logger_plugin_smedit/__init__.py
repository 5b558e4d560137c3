"""The logger ``smedit``: Snakemake finds loggers by the name of their package."""

from smedit.hosting.console import LogHandler

__all__ = ["LogHandler"]
