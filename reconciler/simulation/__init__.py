"""A world of arithmetic: targets, a source, clocks and processes without machines. Years pass in seconds, anything may fail.

The real turn runs in it. What is true is written down beside it, and every effect is held against the rules.
"""
