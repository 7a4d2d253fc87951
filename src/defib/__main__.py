"""``python -m defib`` is the ``defib`` command."""

import sys

from defib.cli import main

if __name__ == "__main__":
    sys.exit(main())
