"""Schedules and samplers: diffusers' schedulers by name, and the sampling loop over any denoiser."""
