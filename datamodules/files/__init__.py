"""Reading files of a user's own: images in folders, tables, and a cache of decoded arrays."""
