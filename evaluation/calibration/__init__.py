"""How far a classifier's confidence can be trusted, and how to mend it."""
