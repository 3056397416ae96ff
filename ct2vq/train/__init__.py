"""Stage `train`: one network on one fold (`run.train_network` is the entry; docs/training.md explains the stage).

A training can be killed at any moment and goes on from its last checkpoint to the same bytes: every epoch draws its
order, its augmentation and its dropout from generators seeded by (seed, epoch), the schedule is a function of the step,
and a checkpoint holds all the rest.
"""
