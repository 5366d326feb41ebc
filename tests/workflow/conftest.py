from workflow_conftest import finished, project  # noqa: F401
