"""What `xray2ctpa evaluate` measures: bundles against baselines on a cohort, and on one real pair."""
