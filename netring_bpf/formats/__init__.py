"""Flow records in the words of other tools: one file for each."""
