"""Parts of the benchmark of trainings (`run_train.py`)."""
