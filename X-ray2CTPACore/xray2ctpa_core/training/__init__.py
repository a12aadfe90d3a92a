"""Training: one loop on accelerate, one class a stage."""
