"""The files that travel with the weights to the Hub: flat, importing only siblings, torch, numpy and transformers."""
