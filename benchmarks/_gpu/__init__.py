"""The parts of `gpu.py`, and the program that runs each of them in a process of its own."""
