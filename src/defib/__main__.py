"""``python -m defib`` is the ``defib`` command."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The current folder: a script's neighbours (queue.py, json.py) are not ours to import.
        del sys.path[0]

    from defib.cli import main

    sys.exit(main())
