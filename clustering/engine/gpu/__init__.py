"""The rows on a GPU: torch for everything, and one Triton kernel that screens the centres in low precision."""
