"""The models the pipeline stands on: trained here for the miniature world, imported for the full-size one."""
