"""What all rules share: the checked configuration, the tables, and what follows from them. No rules."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import DeploymentMethod

# The folder above rules/, also when another workflow imports this one as a module.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
if not ROOT.is_dir():
    raise WorkflowError(
        "pathseg has modules of its own, which Snakemake does not fetch with a Snakefile from a server or a git "
        f"repository ({ROOT}): clone the repository, and name the Snakefile in the clone"
    )
SCRIPTS = ROOT / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

from pathseg.digests import code_digest, digest
from pathseg.errors import PathsegError
from pathseg.cohort.project import Rows, check_folder, read_project, refuse_other_models
from pathseg.cohort.plans import object_classes, plan_is_of, planned_keys
from pathseg.cohort.splitting import divided

DEMO = "results/demo"


def checked(function, *arguments, **options):
    """Call a function whose errors are the input's fault: they are shown without a traceback."""
    try:
        return function(*arguments, **options)
    except PathsegError as error:
        raise WorkflowError(str(error)) from None


for folder in (Path.cwd(), ROOT):
    checked(check_folder, folder)
# Files are looked at once: a job must not fail because a file of another one is gone.
SOURCES = {
    "files": workflow.configfiles,
    "complete": workflow.is_main_process,
    "given": workflow.config_settings.config,
}
PROJECT = checked(read_project, config, ROOT / "config" / "schemas", DEMO, **SOURCES)
SETTINGS, SAMPLES, SLIDES = PROJECT.settings, PROJECT.samples, PROJECT.slides
MODELS, FOLDS, PARTS, EXPERIMENTS = PROJECT.models, PROJECT.folds, PROJECT.parts, PROJECT.experiments
SLIDES_BY_NAME = Rows({row["slide"]: row for row in SLIDES})
# What has a table of scores: each model, and all folds together.
SCORED = FOLDS if len(FOLDS) == 1 else [*FOLDS, "all_folds"]
HELD_OUT = [part for part in PARTS if part == "test"]
# Without their colours, whose change must not cut tiles or train again.
CLASS_VALUES = [{key: class_[key] for key in ("name", "mask_value")} for class_ in SETTINGS["classes"]]
CLASS_NAMES, CLASS_COLORS = (
    [{key: class_[key] for key in keys} for class_ in SETTINGS["classes"]] for keys in (["name"], ["name", "color"])
)
OBJECTS = SETTINGS["objects"] and {
    "classes": object_classes(SETTINGS["objects"]),
    "shrink": SETTINGS["objects"]["shrink"],
}
# Asked for by the configuration, or by regions in the slide table.
MEASURED = SETTINGS["measurements"] is not None or any(row["regions"] for row in SLIDES)
# What is left to the plan: nothing where all is given.
PLANNED = [] if MODELS else list(planned_keys(SETTINGS))
# How to predict is a matter of the machine, in part, and of what is made of the answer: neither predicts again.
MACHINE = ("tile", "precision")
OUTLINES = {key: SETTINGS["prediction"][key] for key in ("min_area_um2", "objects", "split_um")}
PREDICTION = {key: value for key, value in SETTINGS["prediction"].items() if key not in {*MACHINE, *OUTLINES}}
# What a file of a model, or of a slide, is found by in the report.
MODEL_LABELS = {"experiment": "{experiment}", "fold": "{fold}"}
SLIDE_LABELS = {"experiment": "{experiment}", "slide": "{slide}"}


def code(rule):
    """Return what gives the digest of a rule's script and of the modules that it uses to each of its jobs.

    Made only where there are such jobs: a process that runs one job reads the workflow too.
    """

    def of_script(wildcards):
        return code_digest(SCRIPTS / f"{rule}.py")

    return of_script


def text_digest(*names):
    """Return the digest of files of text beside the scripts."""
    return digest([(SCRIPTS / name).read_text(encoding="utf-8") for name in names])


def container_image():
    """Return the path of the image in which jobs run with --sdm apptainer: pathseg.sif beside the Snakefile.

    It is relative, because Snakemake runs all again when it changes, and a folder with results may be moved.
    """
    image = ROOT / "pathseg.sif"
    asked_for = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
    if asked_for and not image.exists():
        raise WorkflowError(f"--sdm apptainer: {image} does not exist; docs/install.md says how it is made")
    return os.path.relpath(image)


def growing(amount):
    """Return a resource function that asks for more memory, or time, at each attempt."""

    def of_attempt(wildcards, attempt):
        return amount * attempt

    return of_attempt


def shown(path, category, caption, **labels):
    """Show an output in the report: its section, a caption of report/, and labels to find it by."""
    return report(path, category=category, caption=f"../report/{caption}.rst", labels=labels)


def score(name, caption, scores):
    """Show a table or figure of a model's scores in the report."""
    return shown(f"<scores>/{name}", "4. Scores", caption, **MODEL_LABELS, scores=scores)


def comparison(ending, scores):
    """Show the comparison of all experiments in the report."""
    path = f"<results>/models/comparison{ending}"
    return shown(path, "4. Scores", "comparison", experiment="all", fold="all", scores=scores)


def about_run(name, caption, what):
    """Show a table or figure of the run itself in the report."""
    return shown(f"<results>/run/{name}", "7. The run", caption, what=what)


def of_models(*made_by, fold=FOLDS):
    """Return what rules make for each trained model: nothing if the models are given."""
    return branch(MODELS, otherwise=[made(rule.output, experiment=EXPERIMENTS, fold=fold) for rule in made_by])
