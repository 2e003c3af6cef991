"""Lightning callbacks: what a run watches, saves and writes down beside the training itself."""
