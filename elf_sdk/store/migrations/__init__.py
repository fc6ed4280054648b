"""The schema's history, by Alembic. A change expands first and contracts two minor releases later."""
