"""What is written about the node, and the program that writes the part which comes from its code."""
