"""Text as models read it: tokens, counts, sub-words, and embeddings of a local encoder."""
