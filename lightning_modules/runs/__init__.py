"""What survives a kill: how checkpoints are written and read, and loggers that a resumed run goes on with."""
