"""Which slides are predicted and outlined by one job, and where its results are until they are taken over. No rules.

Snakemake divides nothing itself: its groups lose all files of a group of which one job fails, and start each job anew.
"""

import itertools
import json
import time
from functools import cache

from pathseg.errors import as_list
from pathseg.cohort.slide_batches import as_text, description, divide, take_for_up_to_date

# Of a slide with an address, or results that a plugin keeps, nobody knows here what is there.
IN_BATCHES = workflow.storage_settings.default_storage_provider is None and not any(
    is_address(path) for path in [*MODELS, *(row[key] for row in SLIDES for key in ("path", "tissue") if row[key])]
)
STARTED = time.time()


@cache
def batches():
    """Return the slides of each batch, by experiment and number; none where a job runs by itself, which has them in a file.

    When this is called first, what is on the command line is known.
    """
    found = {}
    slides = [description(row, own_companions(row["path"])) for row in SLIDES if workflow.is_main_process]
    for experiment in EXPERIMENTS if slides else []:
        folder = Path(of_experiment(rules.predict_batch.output.done, experiment)).parent
        results = str(Path(of_experiment(rules.outline_slide.output.summary, experiment)).parent)
        runs = slides_to_force(results)
        divided = divide(slides, folder, results, names_of_outputs().values(), runs, as_they_are=workflow.touch)
        for number, of_batch in divided.items():
            found[experiment, number] = [slide | {"run": runs.get(slide["slide"])} for slide in of_batch]
    return found


@cache
def numbers():
    """Return the number of each slide's batch, by experiment and slide."""
    return {(experiment, row["slide"]): number for (experiment, number), rows in batches().items() for row in rows}


def of_experiment(output, experiment):
    """Return an output of an experiment as seen from the working folder, with its other wildcards."""
    return in_working_folder(output).replace("{experiment}", experiment)


def take_batches_for_up_to_date():
    """Write down, with --touch, that the slides are made of what there is now."""
    for (experiment, number), slides in batches().items():
        path = Path(of_experiment(rules.predict_batch.output.done, experiment).replace("{batch}", str(number)))
        results = str(Path(of_experiment(rules.outline_slide.output.summary, experiment)).parent)
        take_for_up_to_date(slides, path, results, names_of_outputs().values())


def slides_to_force(results):
    """Return the slides that the command line wants anew, whatever is there in their folders `results`.

    With each goes the run that must predict it; None if only what is made of its answer is wanted.
    """
    dag = workflow.dag_settings
    forced = {str(name) for name in (*dag.forcerun, *(dag.targets if dag.forcetargets else ()))}
    if dag.forceall or rules.predict_batch.rule.name in forced:
        return dict.fromkeys(SLIDES_BY_NAME, str(STARTED))
    if rules.outline_slide.rule.name in forced:
        return dict.fromkeys(SLIDES_BY_NAME)
    folders = {str(Path(name).parent) for name in forced}
    names = [name for name in SLIDES_BY_NAME if folders and results.replace("{slide}", name) in folders]
    return dict.fromkeys(names, str(STARTED))


def slides_of_batch(wildcards, output):
    """Return the slides of a batch as JSON; what depends on the output is not recorded."""
    return as_text(batches().get((wildcards.experiment, int(wildcards.batch)), []))


def batch_of_slide(wildcards):
    """Return the file that a slide's batch makes; Snakemake puts a module's prefix before its name."""
    number = numbers().get((wildcards.experiment, wildcards.slide))
    done = of_experiment(rules.outline_batch.output.done, wildcards.experiment).removeprefix(MODULE_PREFIX)
    return done.replace("{batch}", str(number)) if number else []


def outlined_from(wildcards):
    """Return what a slide's outlines are made from: its files, and what its batch makes. One function takes less time."""
    return {
        "slide": slide_file(wildcards),
        "companions": slide_companions(wildcards),
        "tissue": slide_tissue(wildcards),
        "batch": batch_of_slide(wildcards),
    }


def names_of_outputs(wildcards=None, output=None):
    """Return the names of the files that are made of a slide, by what they are."""
    return {key: Path(path).name for key, path in rules.outline_slide.output.items()}


def names_of_outlines(wildcards, output):
    """Return the names of those that are made of its answer, and not delivered as the networks have them."""
    return {key: name for key, name in names_of_outputs().items() if key not in AS_IT_IS}


def names_of_answer(wildcards, output):
    """Return the names of the files that hold what the networks say of a slide, by what they are."""
    return {key: Path(path).name for key, path in (ANSWER | AS_IT_IS).items()}


def place_of_answers(wildcards, output):
    """Return the folder of what the networks say of the slides of an experiment."""
    return str(Path(output.done).parents[3] / "answers" / wildcards.experiment)


def place_of_batch(wildcards, output):
    """Return where a batch keeps its outlines until they are taken over."""
    return str(Path(output.done).parents[1] / ".outlined")


def log_of_slide(wildcards, output):
    """Return the log of a slide, with {slide} for its name."""
    return of_experiment(rules.outline_slide.log[0], wildcards.experiment)


def last_attempt(wildcards, attempt):
    """Say whether a job that fails is not started again."""
    # Where nothing is run, as for a picture of the rules, there are no such settings.
    return int(attempt > workflow.execution_settings.retries) if workflow.execution_settings else 1


def said_name(experiment, slide):
    """Return what a slide is called in the terminal: with its experiment, where there are several."""
    return f"{slide} ({experiment})" if len(EXPERIMENTS) > 1 else slide


def failed_slides():
    """Return why slides were not predicted in this run, by their names."""
    found = {}
    for experiment, slide in numbers() if IN_BATCHES else ():
        slides = Path(of_experiment(rules.outline_slide.output.summary, experiment)).parents[1]
        for folder in (slides / ".outlined", slides.parents[1] / "answers" / experiment):
            failed = folder / slide / "failed"
            if failed.exists() and failed.stat().st_mtime > STARTED:
                found[said_name(experiment, slide)] = failed.read_text(encoding="utf-8")
    return found


def slides_not_to_trust():
    """Return what is to be said of slides of this run that are unlike those that the models were trained on."""
    lines = []
    for experiment, slide in itertools.product(EXPERIMENTS, SLIDES_BY_NAME):
        path = Path(of_experiment(rules.outline_slide.output.summary, experiment).replace("{slide}", slide))
        if path.exists() and path.stat().st_mtime > STARTED:
            trust = json.loads(path.read_text(encoding="utf-8")).get("trust", {"word": None})
            if trust["word"] not in (None, "usual"):
                lines.append(f"{said_name(experiment, slide)}: {trust['word']}. {trust['reason']}")
    return lines


def say_what_not_to_trust():
    """Name those slides in the terminal."""
    lines = slides_not_to_trust()
    if lines:
        print(f"{len(lines)} of the slides are unlike those that the model was trained on:\n  {as_list(lines)}")
