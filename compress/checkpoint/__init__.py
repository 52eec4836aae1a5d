"""Checkpoints: save, load, verify, write in stock shapes, code that travels with the weights."""
