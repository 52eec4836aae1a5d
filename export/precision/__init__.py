"""How a graph changes its precision, and the proof that it may."""
