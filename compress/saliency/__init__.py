"""How much the loss grows if a unit is removed: scores, and the statistics that they share."""
