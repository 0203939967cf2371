"""`python -m atelier_server.runner MODEL …`."""

from atelier_server.runner.main import main

if __name__ == "__main__":
    main()
