"""OpenAI's image API, and every service that speaks it. It runs in the server's process; the SDK is loaded at start."""
