"""The networks: the residual attention network of the study (`ran.py`) and the peers from MONAI (`peers.py`).

`build.py` makes one of them, `settings.py` knows what each kind asks of its settings without importing torch,
`cost.py` counts parameters and multiply-adds. docs/networks.md explains them.
"""
