"""The benchmark of the registration: cases with known truth, what is measured on them, and who is measured."""
