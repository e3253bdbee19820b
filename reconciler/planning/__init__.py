"""What should be done, reasoned from facts alone: no clock, no network, no chance, no files."""
