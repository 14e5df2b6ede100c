"""What readings mean: measures, limits, rules, flags."""
