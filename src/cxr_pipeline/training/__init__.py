"""Fitting networks on prepared images.

``fitting`` is the way in. ``image_sets`` says what is learnt from and how, ``phases`` what is trained one after the
other, ``epochs`` runs them, ``choice`` picks the epoch, ``features`` keeps what a frozen backbone computed, ``batches``
reads images or features in the order of an epoch, ``checkpoints`` keeps the state of an unfinished training.
"""
