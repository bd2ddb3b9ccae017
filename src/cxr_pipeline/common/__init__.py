"""What every other package uses: errors, atomic files, locks, provenance, nested mappings."""
