"""`python -m atelier_client` is `atelier`."""

import sys

from atelier_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
