"""Floor 2: bytes become labelled arrays. The cine model, the cohort, phases and volumes."""
