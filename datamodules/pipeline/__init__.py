"""What every data set shares, in the order of a batch's life: split, augment, batch, loader, scaling, placement."""
