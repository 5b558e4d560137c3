"""``make clean``: remove what runs of the workflow have made, and nothing that git keeps.

Prepared models stay, as they take long to fetch, and so do archives that ``smedit pack`` has made.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from smedit.errors import UserError, with_status
from smedit.hosting import run_lock

FOLDERS = ("results", "figures", "smoke")
KEPT = "kept/"


@with_status
def main() -> None:
    """Remove results and figures, unless a run is at work here."""
    if not Path(".git").exists():
        raise UserError(
            f"{Path.cwd()}: no git checkout, so what came with it is not known; remove by hand "
            f"what is no longer wanted in {', '.join(FOLDERS)}"
        )
    run_lock.hold(Path(".snakemake/smedit.lock"))
    folders = [folder for folder in FOLDERS if Path(folder).exists()]
    if folders:  # without any, git would clean everything
        subprocess.run(["git", "clean", "-xdf", "-e", KEPT, "--", *folders], check=True)


if __name__ == "__main__":
    sys.exit(main())
