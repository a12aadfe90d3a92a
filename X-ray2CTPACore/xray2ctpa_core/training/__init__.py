"""Training: one loop on accelerate, and one class for each stage."""
