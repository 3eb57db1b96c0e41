"""Data sets, batched augmentation on the device, and the order of data in time (floor 1)."""
