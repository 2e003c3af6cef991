"""Readers of the user's own files: images in folders, tables, and a cache of decoded arrays."""
