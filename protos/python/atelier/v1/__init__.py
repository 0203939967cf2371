"""The public messages and services of Atelier, generated from protos/atelier/v1."""
