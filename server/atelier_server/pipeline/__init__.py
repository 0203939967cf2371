"""Owns the order of stages, the time budget, cancellation and partial results of a generation."""
