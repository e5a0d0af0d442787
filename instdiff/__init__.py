"""Instance-controlled image generation: the model, its pipeline and the types every stage shares."""
