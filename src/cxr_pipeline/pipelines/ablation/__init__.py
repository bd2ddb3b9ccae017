"""The ablation stage."""
