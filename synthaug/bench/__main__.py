"""``python -m synthaug.bench``: run a study. Without arguments, the quickstart on generated phantoms."""

import sys

from synthaug.__main__ import run_command

if __name__ == "__main__":
    sys.exit(run_command("bench", sys.argv[1:]))
