"""Distillation: a student learns what its teacher says, online or from a store."""
