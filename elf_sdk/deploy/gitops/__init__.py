"""The repository that Argo CD watches: what is in it, how it is written, and how it is committed and pushed."""
