"""Instance-controlled image generation: the model, its training and sampling. Open sampling/pipeline.py first."""
