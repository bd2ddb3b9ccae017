"""The sections of a report and a model card, by subject."""
