"""What `xray2ctpa bench` measures: the papers' way and ours in one run, and what the hardware allows."""
