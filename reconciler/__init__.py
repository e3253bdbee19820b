"""Declare what "backed up" means for each PostgreSQL database; reconcile makes it true, and proves it.

Start reading in `reconciler/turn.py`.
"""

__version__ = "0.1.0"
