"""Figures of the whole study, one module for a family; each is written with the table of what it shows."""
