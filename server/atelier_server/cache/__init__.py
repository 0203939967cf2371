"""Finished generations, kept in memory and on disk, so that the same work is not done twice."""
