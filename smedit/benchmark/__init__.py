"""What `make bench` measures: the engine, not the methods."""
