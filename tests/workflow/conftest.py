from browser import browser  # noqa: F401
from slurm_node import slurm  # noqa: F401
from workflow_conftest import finished, project  # noqa: F401
