"""SMEdit (arXiv 2508.04012) and the engine on which every compared method runs."""
