"""One package for each stage; none knows a task or another stage."""
