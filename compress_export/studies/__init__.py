"""The papers' questions, asked of the user's own model.

A study is a grid of cells, each worked once and kept (`grid`), and a function from their rows to
findings. One module per study.
"""
