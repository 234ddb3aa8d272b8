"""Attacks on a node that runs, and a modality that sends beside each: it waits for none of them."""
