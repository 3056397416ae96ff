"""The benchmark of right and wrong patients: whose scans meet, what is measured on a pair, and what it says."""
