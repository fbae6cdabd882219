"""The embedded demo: a seeded corpus of documents with questions, and the small models that were trained on it."""
