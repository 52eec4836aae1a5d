"""Serving folders: what a stack needs, written beside a bundle and verified with the real thing."""
