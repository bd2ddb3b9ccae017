"""Compare a challenger with the champion and promote it by the promotion rule."""
