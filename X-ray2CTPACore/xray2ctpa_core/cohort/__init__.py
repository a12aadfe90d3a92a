"""Virtual patients: one contrast-enhanced template CT, deformed, with and without pulmonary embolism."""
