"""What rules are given: functions of their wildcards, for inputs and parameters. No rules."""

import glob
import json
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import apply_wildcards

from pathseg.cohort.project import table_and_slides
from pathseg.cohort.rows import without_files
from pathseg.cohort.splitting import read_parts
from pathseg.cohort.tables import fetched_or_here, why_no_file
from pathseg.export.projects import removed_slides
from pathseg.files import file_digest


def training_parts(fold):
    """Return the parts that a fold trains on."""
    return ["train"] if fold == "holdout" else [part for part in FOLDS if part != fold]


def validation_part(fold):
    """Return the part that a fold validates on."""
    return "val" if fold == "holdout" else fold


def parts_file(wildcards=None, output=None):
    """Return where the part of each patient is written down; what depends on the output is not recorded."""
    return str(Path(in_working_folder(rules.split_patients.output.split)).with_name("parts.json"))


def part_of_each(wildcards, output):
    """Return the part of each patient."""
    return {row["patient"]: row["part"] for row in COHORT}


def split_settings(wildcards, output):
    """Return how patients are divided."""
    return SETTINGS["split"]


def in_parts(*parts):
    """Return the rows of the sample table whose patients are in the given parts, in the table's order."""
    return [row for row in COHORT if row["part"] in parts]


def own_files(rows, column):
    """Return the files that a column of the sample table names."""
    return [own_file(row[column]) for row in rows if row[column]]


def rows_of_cohort(wildcards):
    """Return the rows of the sample table without the files, which are inputs."""
    return [without_files(row) for row in COHORT]


def masks_of_cohort(wildcards):
    """Return all masks."""
    return own_files(COHORT, "mask")


def images_of_cohort(wildcards):
    """Return all images."""
    return own_files(COHORT, "image")


def instances_of_cohort(wildcards):
    """Return all images of objects, where there are any."""
    return own_files(COHORT, "instances")


def learned_from():
    """Return the rows of patients whom any fold trains on: all but those of validation and test."""
    return in_parts(*(part for part in PARTS if part not in ("val", "test")))


def rows_of_training(wildcards):
    """Return those rows, without the files."""
    return [without_files(row) for row in learned_from()]


def images_of_training(wildcards):
    """Return the images of those rows."""
    return own_files(learned_from(), "image")


def masks_of_training(wildcards):
    """Return the masks of those rows."""
    return own_files(learned_from(), "mask")


def instances_of_training(wildcards):
    """Return the images of those rows' objects, where there are any."""
    return own_files(learned_from(), "instances")


def plan_is_given():
    """Return whether the file that the plan would write is the configuration."""
    written = Path(rules.draw_plan.output.configuration).resolve()
    return written in [Path(file).resolve() for file in workflow.configfiles]


def plan_of_project(wildcards):
    """Return what says the settings that are left out; nothing if all are given."""
    return made(rules.plan_settings.output.settings)[0] if PLANNED else []


def trials_of_project(wildcards):
    """Return what resolutions were tried out; nothing if none is."""
    return made(rules.try_resolutions.output.trials)[0] if TRIED else []


def unet_of_trials(wildcards):
    """Return the network that is tried: that of the first experiment."""
    return SETTINGS["experiments"][EXPERIMENTS[0]]["unet"]


def training_of_trials(wildcards):
    """Return how it is trained."""
    settings = SETTINGS["experiments"][EXPERIMENTS[0]]["training"]
    return {key: value for key, value in settings.items() if key != "init"}


def rows_of_part(wildcards):
    """Return the rows of a part, without the files."""
    return [without_files(row) for row in in_parts(wildcards.part)]


def images_of_part(wildcards):
    """Return the images of a part."""
    return own_files(in_parts(wildcards.part), "image")


def masks_of_part(wildcards):
    """Return the masks of a part."""
    return own_files(in_parts(wildcards.part), "mask")


def instances_of_part(wildcards):
    """Return the images of a part's objects, where there are any."""
    return own_files(in_parts(wildcards.part), "instances")


def state_folder(wildcards, output):
    """Return where a training keeps what it goes on from; not where a storage plugin clears up, nor on a node's disk."""
    # Not from `output`, which is where a plugin has its local copy; only what depends on it is not recorded.
    model = apply_wildcards(in_working_folder(rules.train_unet.output.model), wildcards)
    return str(Path(model).with_name(".state"))


def training_databases(wildcards):
    """Return the databases that a fold trains on."""
    return made(rules.build_database.output.database, part=training_parts(wildcards.fold))


def validation_database(wildcards):
    """Return the database that a fold validates on."""
    (database,) = made(rules.build_database.output.database, part=validation_part(wildcards.fold))
    return database


def unet_settings(wildcards):
    """Return the network of an experiment."""
    return SETTINGS["experiments"][wildcards.experiment]["unet"]


def training_settings(wildcards):
    """Return how an experiment is trained, without the file that it starts from, which is an input."""
    settings = SETTINGS["experiments"][wildcards.experiment]["training"]
    return {key: value for key, value in settings.items() if key != "init"}


def init_model(wildcards):
    """Return the model that a training starts from, if any."""
    model = init_of(wildcards.experiment, wildcards.fold)
    if model is None:
        keep_what_was_trained_on(wildcards)
    return own_file(model) if model else []


def keep_what_was_trained_on(wildcards):
    """Keep a model that was trained on from another one where a training would begin anew and write over it.

    Where a rule has no input, Snakemake takes an output that is there as it is, without a word.
    """
    record = Path(state_folder(wildcards, None)).with_name("started_from.json")
    if record.exists():
        words = (
            f"{record.parent}: was trained on from {json.loads(record.read_text(encoding='utf-8'))['init']}, and "
            "training.init names nothing now. It is kept as it is, and not trained from the start: write training: "
            f"{{init: ...}} into the configuration file again, or move {record.parents[1]} away"
        )
        warn_once(words)
        raise WorkflowError(words)


@cache
def warn_once(words):
    """Say something that the user should know, once."""
    if workflow.is_main_process:
        logger.warning(words)


def models_folder():
    """Return the folder of all experiments' models, in the working folder."""
    return Path(in_working_folder(rules.train_unet.output.model)).parents[2]


def init_of(experiment, fold):
    """Return the model that a training starts from: a file, or of a folder of models that of the same fold."""
    init = SETTINGS["experiments"][experiment]["training"]["init"]
    if init is None:
        return None
    models = models_folder()
    # A folder of models may be made before, by the experiment that it is of.
    is_folder = not is_address(init) and (Path(init).is_dir() or Path(init) in [models / name for name in EXPERIMENTS])
    model = f"{init}/{fold}/best.pt" if is_folder else init
    own = models / experiment
    if Path(model).resolve().is_relative_to(own.resolve()):
        raise WorkflowError(
            f"training.init: {model} is what this very training would write; copy {own} elsewhere, and start from the copy"
        )
    # That of another experiment may be made before.
    if not (fetched_or_here(model) or Path(model).absolute().is_relative_to(models.absolute())):
        raise WorkflowError(f"training.init: {model} {why_no_file(model)}")
    return model


def init_digest(wildcards):
    """Return the digest of the model that a training starts from; None of one that the workflow makes, or has to fetch.

    A file may be replaced by an older one, as copies keep their dates.
    """
    model = init_of(wildcards.experiment, wildcards.fold)
    if model is None or is_address(model) or Path(model).absolute().is_relative_to(models_folder().absolute()):
        return None
    return file_digest(model)


def digest_of_training(wildcards):
    """Return a digest of how a model is trained: code, network and settings."""
    return digest([code("train_unet")(wildcards), unet_settings(wildcards), training_settings(wildcards)])


def preview_settings(wildcards):
    """Return what of an experiment's training changes what the network is fed."""
    keys = ("augmentation", "edges", "edge_weight", "edge_width", "edge_w0", "seed")
    return {key: training_settings(wildcards)[key] for key in keys}


def calibration_rows(wildcards):
    """Return the rows of the part that a fold's model is calibrated on, without the files."""
    return [without_files(row) for row in in_parts(validation_part(wildcards.fold))]


def calibration_images(wildcards):
    """Return the images of that part."""
    return own_files(in_parts(validation_part(wildcards.fold)), "image")


def calibration_masks(wildcards):
    """Return the masks of that part."""
    return own_files(in_parts(validation_part(wildcards.fold)), "mask")


def calibration_instances(wildcards):
    """Return the images of that part's objects, if they are told apart and there are any."""
    return own_files(in_parts(validation_part(wildcards.fold)), "instances") if OBJECTS else []


def training_rows(wildcards):
    """Return the rows of the parts that a fold trains on, without the files."""
    return [without_files(row) for row in in_parts(*training_parts(wildcards.fold))]


def training_images(wildcards):
    """Return the images of those parts."""
    return own_files(in_parts(*training_parts(wildcards.fold)), "image")


def scored(wildcards):
    """Return the rows that are scored."""
    return in_parts(*scored_parts(wildcards))


def scored_rows(wildcards):
    """Return those rows, without the files."""
    return [without_files(row) for row in scored(wildcards)]


def scored_parts(wildcards):
    """Return the parts that are scored, with what the scores call them: none that a model was trained on."""
    if wildcards.fold == "mean_of_folds":
        return {part: "test, mean of folds" for part in HELD_OUT}
    return {validation_part(wildcards.fold): "validation"} | {part: "test" for part in HELD_OUT}


def scored_models(wildcards):
    """Return the model of a fold, or those of all folds, whose mean predicts slides."""
    folds = FOLDS if wildcards.fold == "mean_of_folds" else [wildcards.fold]
    return made(rules.calibrate_model.output.model, experiment=wildcards.experiment, fold=folds)


def scored_images(wildcards):
    """Return the images of those rows."""
    return own_files(scored(wildcards), "image")


def scored_masks(wildcards):
    """Return the masks of those rows."""
    return own_files(scored(wildcards), "mask")


def scored_instances(wildcards):
    """Return the images of those rows' objects, where there are any."""
    return own_files(scored(wildcards), "instances")


def counts_of(experiment, fold):
    """Return the counts of a model, or of the models of all folds, one by one and as their mean."""
    folds = [*FOLDS, *(["mean_of_folds"] if HELD_OUT else [])] if fold == "all_folds" else [fold]
    return made(rules.evaluate.output.counts, experiment=experiment, fold=folds)


def counts_of_folds(wildcards):
    """Return the counts that a table of scores is of."""
    return counts_of(wildcards.experiment, wildcards.fold)


def counts_of_experiments(wildcards):
    """Return the counts of all experiments, one after another, with as many files for each."""
    return [path for experiment in EXPERIMENTS for path in counts_of(experiment, SCORED[-1])]


def calibrations_of_folds(wildcards):
    """Return how sure a model is before and after calibration, or the models of all folds."""
    folds = FOLDS if wildcards.fold == "all_folds" else [wildcards.fold]
    return made(rules.calibrate_model.output.table, experiment=wildcards.experiment, fold=folds)


def exported_models(wildcards):
    """Return the model of a fold, or all that predict slides."""
    if wildcards.fold == "all_folds":
        return prediction_models(wildcards)
    return made(rules.calibrate_model.output.model, experiment=wildcards.experiment, fold=wildcards.fold)


def cards_of_exported(wildcards):
    """Return the model cards of those models, but for given ones, which have none."""
    folds = FOLDS if wildcards.fold == "all_folds" else [wildcards.fold]
    return branch(MODELS, otherwise=made(rules.write_model_card.output, experiment=wildcards.experiment, fold=folds))


def qupath_folder():
    """Return the folder of the QuPath project, in the working folder."""
    return Path(in_working_folder(rules.write_qupath_project.output.project)).parent


def exported_annotations(wildcards):
    """Return the files of annotations that were exported from QuPath."""
    pattern = SETTINGS["annotations"] or f"{glob.escape(str(qupath_folder() / 'annotations'))}/*.geojson"
    return [own_file(export) for export in ([pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern)))]


def cohort_before(wildcards, output):
    """Return whom and what the sample table knows before it gets more rows; what depends on the output is not recorded."""
    samples, slides = checked(table_and_slides, PROJECT, ROOT / "config" / "schemas")
    return {
        "samples": samples,
        "placed": parts_of_patients(),
        "split": SETTINGS["split"],
        "slides": {row["slide"]: row for row in slides},
        "project": None if SETTINGS["annotations"] else str(qupath_folder()),
    }


def parts_of_patients():
    """Return the part of each patient who was ever placed; with a given model, too."""
    return read_parts(parts_file(), SETTINGS["split"] if COHORT else None) | {
        row["patient"]: row["part"] for row in COHORT
    }


# What is chosen because a model fails there would make scores of these parts other than they are.
NOT_LEARNED_FROM = ("test", "val")


def suggested():
    """Return the rows of slides that may be suggested: of patients who are learned from, or new."""
    parts, removed = parts_of_patients(), removed_by_hand()
    known = [row for row in SLIDES if row["patient"] and row["slide"] not in removed]
    return [row for row in known if parts.get(row["patient"]) not in NOT_LEARNED_FROM]


@cache
def removed_by_hand():
    """Return the slides that were removed from the QuPath project: nobody wants to annotate them."""
    return checked(removed_slides, qupath_folder())


def left_out_of_suggestions(wildcards):
    """Return why slides are not suggested that could be, by reason."""
    parts = parts_of_patients()
    return {
        "the slide table does not say which patient they are from": [
            r["slide"] for r in SLIDES if r["patient"] is None
        ],
        "they were removed from the QuPath project": sorted(removed_by_hand() & set(SLIDES_BY_NAME)),
        "their patients are not learned from, but scored": [
            row["slide"] for row in SLIDES if parts.get(row["patient"]) in NOT_LEARNED_FROM
        ],
    }


def rows_of_suggested(wildcards):
    """Return those rows without the files."""
    return [{key: row[key] for key in ("slide", "patient", "mpp")} for row in suggested()]


def files_of_suggested(wildcards):
    """Return the files of those slides."""
    return own_files(suggested(), "path")


def of_suggested(output, wildcards):
    """Return what a rule makes of each of those slides."""
    return made(output, experiment=wildcards.experiment, slide=[row["slide"] for row in suggested()])


def maps_of_suggested(wildcards):
    """Return where models are unsure on those slides."""
    return of_suggested(rules.map_doubt.output.map, wildcards)


def annotations_of_suggested(wildcards):
    """Return the predicted outlines of those slides."""
    return of_suggested(rules.outline_slide.output.annotations, wildcards)


def summaries_of_suggested(wildcards):
    """Return the summaries of those slides, which name the classes."""
    return of_suggested(rules.outline_slide.output.summary, wildcards)


def samples_of_suggested():
    """Return the rows of the sample table whose images those slides are, by the slide's name."""
    by_image = {os.path.realpath(row["image"]): row for row in SAMPLES}
    rows = {row["slide"]: by_image.get(os.path.realpath(row["path"])) for row in suggested()}
    return {slide: row for slide, row in rows.items() if row}


def annotated_of_suggested(wildcards):
    """Return which of those slides are samples."""
    return list(samples_of_suggested())


def masks_of_suggested(wildcards):
    """Return their masks: what is annotated is not suggested."""
    return own_files(samples_of_suggested().values(), "mask")


def no_slides(wildcards):
    """Return nothing where no slides are given, as after a training; a given model is there to predict some."""
    if MODELS:
        raise WorkflowError("nothing to do: give the `slides` that the model is to predict")
    return []


def slide_file(wildcards):
    """Return a slide's file."""
    return own_file(SLIDES_BY_NAME[wildcards.slide]["path"])


def files_of_slides(wildcards):
    """Return the files of all slides."""
    return own_files(SLIDES, "path")


def slide_companions(wildcards):
    """Return the files that a slide's file needs beside it, if its format has several."""
    return own_companions(SLIDES_BY_NAME[wildcards.slide]["path"])


def slide_tissue(wildcards):
    """Return the user's own mask of a slide's tissue, if there is one."""
    tissue = SLIDES_BY_NAME[wildcards.slide]["tissue"]
    return own_file(tissue) if tissue else []


def slide_regions(wildcards):
    """Return the regions of a slide that are measured, if there are any."""
    regions = SLIDES_BY_NAME[wildcards.slide]["regions"]
    return own_file(regions) if regions else []


def outlines_of_slide(wildcards):
    """Return the outlines of a slide, if bands along a border are measured."""
    return rules.outline_slide.output.annotations if (SETTINGS["measurements"] or {}).get("margins") else []


def objects_of_slide(wildcards):
    """Return the table of a slide's objects, if they are told apart."""
    return rules.outline_slide.output.objects if OBJECTS else []


def patient_of_slide(wildcards):
    """Return the patient of a slide; one whose patient is not known is a patient."""
    return SLIDES_BY_NAME[wildcards.slide]["patient"] or wildcards.slide


def on_this_machine(wildcards, threads):
    """Return what of `prediction` is a matter of the machine: Snakemake does not record what depends on threads."""
    return {key: SETTINGS["prediction"][key] for key in MACHINE}


def benchmark_folder(wildcards, output):
    """Return where Snakemake's records of jobs are."""
    return str(Path(rules.train_unet.benchmark).parents[1])


def jobs_of_workflow(wildcards, output):
    """Return the names of jobs, as the records of Snakemake have them; what depends on the output is not recorded."""
    models = collect("{experiment}.{fold}", experiment=EXPERIMENTS, fold=[*FOLDS, "all_folds", "mean_of_folds"])
    return [
        *PARTS,
        *EXPERIMENTS,
        *models,
        *collect("{experiment}/{slide}", experiment=EXPERIMENTS, slide=SLIDES_BY_NAME),
        *(f"{experiment}.{number}" for experiment, number in (batches() if IN_BATCHES else ())),
    ]


def slide_mpp(wildcards):
    """Return a slide's µm per pixel as its table says, or None."""
    return SLIDES_BY_NAME[wildcards.slide]["mpp"]


def prediction_models(wildcards):
    """Return the models that predict: the given ones, or those of all folds."""
    return [own_file(model) for model in MODELS] or made(
        rules.calibrate_model.output.model, experiment=wildcards.experiment, fold=FOLDS
    )
