"""What a run tells its reader: figures, and one page that holds them with the numbers in words."""
