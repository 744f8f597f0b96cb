"""MLflow as a view of the record: delivered from a journal, late or again without harm."""
