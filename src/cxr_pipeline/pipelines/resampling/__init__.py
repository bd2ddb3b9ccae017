"""Resampling stage: plan how often each training image is shown, and preview its augmentation."""
