"""Fitting networks on prepared films.

``fitting`` is the way in. ``film_sets`` says what is learnt from and how, ``phases`` what is trained one after the
other, ``epochs`` runs them, ``choice`` picks the epoch, ``features`` keeps what a frozen backbone computed, ``batches``
reads films or features in the order of an epoch, ``checkpoints`` keeps the state of an unfinished training.
"""
