"""From a set to its batches, for every data module: split, augment, batch, loader, scaling, placement."""
