"""The SQL database: one verb a transaction. Importing it takes SQLAlchemy, so it is imported where a DAG is first used."""
