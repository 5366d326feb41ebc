"""Files that Snakemake's storage plugins fetch, or keep. No rules.

Tables name some by their addresses (s3://bucket/a.svs); with --default-storage-provider all outputs are kept elsewhere.
"""

from functools import cache

from snakemake.io import strip_wildcard_constraints
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from pathseg.errors import as_list
from pathseg.cohort.tables import missing_files
from pathseg.cohort.formats import LocalFiles, companions, folder_of, is_address

# What comes before the names of outputs: with --default-storage-prefix, and in a module with a prefix.
STORAGE_PREFIX = workflow.storage_settings.default_storage_prefix or ""
MODULE_PREFIX = workflow.modifier.path_modifier.prefix or ""


class BucketFiles:
    """Files in buckets of S3."""

    def beside(self, path):
        """Return the files of the folder that a file is in."""
        return self._listed(folder_of(path), Delimiter="/")

    def below(self, folder):
        """Return the files in a folder and its folders."""
        return self._listed(folder)

    def text(self, path):
        """Return what a file says."""
        return self._kept(path).s3obj().get()["Body"].read().decode(errors="replace")

    def has(self, path):
        """Say whether a file is there, if that can be known before."""
        if is_address(path):
            fetched(path)
        return not path.startswith("s3:") or path in looked_up(self.beside, path)

    @cache
    def _listed(self, folder, **options):
        kept = self._kept(f"{folder}/x")
        found = kept.s3bucket().objects.filter(Prefix=kept.key.removesuffix("x"), **options)
        return frozenset(f"s3://{kept.bucket}/{item.key}" for item in found)

    def _kept(self, path):
        if not path.startswith("s3:"):
            raise PathsegError("only of S3 is it known how to ask; fetch the slide to this machine")
        return fetched(path).flags["storage_object"]


BUCKETS = BucketFiles()


def looked_up(question, path, *more):
    """Ask a storage about a file; what goes wrong there is said in a sentence."""
    try:
        return question(path, *more)
    except WorkflowError:
        raise
    except Exception as error:
        raise WorkflowError(f"{path}: cannot be looked up: {error}") from None


def fetched(address):
    """Return a file that a storage plugin fetches before it is needed."""
    try:
        return storage(address)
    except WorkflowError:
        scheme = address.partition(":")[0]
        raise WorkflowError(
            f"{address}: no storage plugin that is installed here fetches it; try: pip install "
            f"snakemake-storage-plugin-{scheme}"
        ) from None


def own_file(path):
    """Return a file of the user's own: it is where the table says, also for a module with a prefix, and with storage."""
    if is_address(path):
        return fetched(path)
    return path if path.startswith(f"{DEMO}/") else local(path)


def own_companions(path):
    """Return the files that a slide's file needs beside it, if its format has several."""
    return [own_file(other) for other in looked_up(companions, path, BUCKETS if is_address(path) else LocalFiles())]


def in_working_folder(output):
    """Return where an output is as seen from the working folder, also if a storage plugin keeps it elsewhere."""
    kept = getattr(output, "flags", {}).get("storage_object")
    path = kept.query.removeprefix(STORAGE_PREFIX).lstrip("/") if kept else str(output)
    return strip_wildcard_constraints(path)


def made(files, **wildcards):
    """Return outputs for all values of their wildcards: `collect` refuses what a storage plugin keeps."""
    if workflow.storage_settings.default_storage_provider is None:
        return collect(files, **wildcards)
    files = [files] if isinstance(files, str) else files
    # Snakemake puts both before them again.
    return collect([in_working_folder(file).removeprefix(MODULE_PREFIX) for file in files], **wildcards)


def of_all_slides(files):
    """Return a function for their outputs of all slides, of the job's experiment, or of all if it has none.

    Of thousands of slides, only rules that are run have such a list: to make one takes Snakemake a second.
    """

    def outputs(wildcards):
        return made(files, experiment=wildcards.get("experiment", EXPERIMENTS), slide=list(SLIDES_BY_NAME))

    return outputs


@cache
def address_of_fetched():
    """Return the addresses of given models and slides by where they are when they are fetched."""
    named = [path for path in [*MODELS, *(row["path"] for row in SLIDES)] if is_address(path)]
    return {str(fetched(address)): address for address in named}


def addresses(wildcards, input):
    """Return the addresses of those inputs that have one; Snakemake does not record what depends on the input."""
    known = address_of_fetched()
    return {path: known[path] for path in input if path in known}


# As of those on this machine, all that are missing are named at once.
if workflow.is_main_process:
    gone = missing_files(SAMPLES, ["image", "mask", "instances"], DEMO, BUCKETS.has)
    gone += missing_files(SLIDES, ["path", "tissue", "regions"], DEMO, BUCKETS.has)
    gone += [f"model {model} does not exist" for model in MODELS if not BUCKETS.has(model)]
    if gone:
        raise WorkflowError(f"files are missing:\n  {as_list(gone)}")
