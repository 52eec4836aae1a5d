"""A live model seen through its architecture record: layers, heads, outputs, masks, surgery."""
