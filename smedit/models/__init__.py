"""Language models: sources, conversion, names of their modules."""
