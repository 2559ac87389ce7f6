"""What is worth searching: one file a job of the same name, `SPACE` by dotted paths of its run."""
