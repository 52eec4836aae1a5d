"""Least-squares refit of the output projections after units are removed."""
