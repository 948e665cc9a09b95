"""Liked and corrected answers as examples for the next answer: `candidates` what may be one, `index` finds the similar ones,
`choosing` takes a few from different people, `service` keeps each project's index fresh, `embeddings` asks a model."""
