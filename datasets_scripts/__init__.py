"""Raw dance data sets, as their users have them on disk, to one Parquet schema (`schema.py`)."""
