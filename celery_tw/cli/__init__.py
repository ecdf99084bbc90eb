"""`celery tw`: the command line for people."""
