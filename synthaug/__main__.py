"""``python -m synthaug COMMAND``: the same as the ``synthaug`` command."""

import sys

from synthaug.bench.commands import main

if __name__ == "__main__":
    sys.exit(main())
