"""What a plan is and how it changes; pure where it can be."""
