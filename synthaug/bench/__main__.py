"""``python -m synthaug.bench``: run a study. Without arguments, the quickstart on generated phantoms."""

import sys

from synthaug.bench.commands import run_command

if __name__ == "__main__":
    sys.exit(run_command("bench", sys.argv[1:]))
