"""Floor 3: the cohort's arrays in another library's clothes. Adapters do not know each other."""
