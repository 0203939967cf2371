"""`python -m atelier_server` is `atelier-server`."""

import sys

from atelier_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
