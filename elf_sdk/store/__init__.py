"""One database engine a process, with the schema and all migrations; SQLite and PostgreSQL differ only here."""
