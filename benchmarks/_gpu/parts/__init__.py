"""One part of the measurements a file, each with a function `run(bench)`."""
