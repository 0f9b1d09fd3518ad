"""Floor 4: one metadata source into cards, datasheets and exports."""
