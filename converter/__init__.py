"""Floor 1: a model comes in, a spiking model goes out. Needs torch; no terminal, no data sets."""
