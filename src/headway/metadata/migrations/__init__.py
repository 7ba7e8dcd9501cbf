"""The steps that bring an older database to the schema of ``headway.metadata._tables``; run by Alembic."""
