"""`make mutants`: changes one thing of the core at a time, and prints the changes that no test notices."""
