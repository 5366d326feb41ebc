import os

import pytest

from pathseg.cohort import slide_batches
from pathseg.cohort.slide_batches import description, divide, take_for_up_to_date, write_done

OUTPUTS = ["classes.tif", "summary.json"]


class Project:
    """Slides in a folder, and what has been made of them."""

    def __init__(self, folder):
        self.folder = folder
        self.slides = []
        (folder / "results/.batches").mkdir(parents=True)

    def add(self, name, size=1, **row):
        path = self.folder / f"{name}.tif"
        with open(path, "wb") as file:
            file.truncate(size)
        row = {"slide": name, "path": str(path), "mpp": None, "tissue": None} | row
        self.slides.append(description(row, []))

    def divide(self, anew=()):
        """Return the names of the slides of each batch."""
        divided = divide(self.slides, self.folder / "results/.batches", self.pattern(), OUTPUTS, anew)
        self.divided = divided
        return {number: [slide["slide"] for slide in slides] for number, slides in divided.items()}

    def pattern(self):
        return str(self.folder / "results/{slide}")

    def predict(self, number, *failing):
        """Do what the job of a batch does, and what takes its slides over."""
        done = [slide for slide in self.divided[number] if slide["slide"] not in failing]
        for slide in done:
            (self.folder / "results" / slide["slide"]).mkdir(exist_ok=True)
            for name in OUTPUTS:
                (self.folder / "results" / slide["slide"] / name).touch()
        write_done(done, self.folder / f"results/.batches/{number}.json")

    def make_newer(self, name):
        later = (self.folder / "results" / name / OUTPUTS[0]).stat().st_mtime + 10
        os.utime(self.folder / f"{name}.tif", (later, later))


@pytest.fixture
def project(tmp_path):
    """Five small slides, of which one has failed, and a large one."""
    project = Project(tmp_path)
    for name in "abcde":
        project.add(name)
    project.add("large", 2_000_000)
    assert project.divide() == {1: [*"abcde", "large"]}
    project.predict(1, "c")
    return project


def test_a_slide_stays_in_its_batch_and_what_failed_is_in_a_new_one(project):
    assert project.divide() == {1: ["a", "b", "d", "e", "large"], 2: ["c"]}
    project.predict(2, "c")
    assert project.divide() == {1: ["a", "b", "d", "e", "large"], 3: ["c"]}
    project.predict(3)
    project.add("new")
    assert project.divide() == {1: ["a", "b", "d", "e", "large"], 3: ["c"], 4: ["new"]}


def test_a_number_that_was_given_is_not_given_again(project):
    """A batch that was killed has left the list of its slides."""
    (project.folder / "results/.batches/7.slides.json").touch()
    assert project.divide()[8] == ["c"]


def test_what_is_to_be_predicted_anew(project):
    project.predict(2) if project.divide()[2] else None
    folder = project.folder
    (folder / "results/a/classes.tif").unlink()
    project.make_newer("large")
    # A newer file of the same content is as before, one of another content is not.
    project.make_newer("b")
    (folder / "d.tif").write_bytes(b"x")
    project.make_newer("d")
    project.slides[4] = description({"slide": "e", "path": str(folder / "e.tif"), "mpp": 0.5, "tissue": None}, [])
    assert project.divide() == {1: ["b"], 2: ["c"], 3: ["a", "d", "e", "large"]}
    assert project.divide(anew={"b"})[3] == ["a", "b", "d", "e", "large"]


def test_what_belongs_to_a_slide_counts(project):
    row = {"slide": "a", "path": "a.mrxs", "mpp": None, "tissue": None}
    assert description(row, ["a/1.dat"]) != description(row, ["a/2.dat"])
    assert description(row, []) != description(row | {"tissue": "t.png"}, [])


def test_moved_files_may_be_taken_for_up_to_date(project):
    """Nothing else follows: the file of the batch is as old as before."""
    for number, name in enumerate("abcde"):
        row = {"slide": name, "path": str(project.folder / f"elsewhere/{name}.tif"), "mpp": None, "tissue": None}
        project.slides[number] = description(row, [])
    assert project.divide() == {1: ["large"], 2: [*"abcde"]}
    batches, outputs = project.folder / "results/.batches", (project.pattern(), OUTPUTS)
    kept = divide(project.slides, batches, *outputs, as_they_are=True)
    assert [slide["slide"] for slide in kept[1]] == ["a", "b", "d", "e", "large"]
    before = (batches / "1.json").stat().st_mtime_ns
    for number, slides in kept.items():
        take_for_up_to_date(slides, batches / f"{number}.json", *outputs)
    assert (batches / "1.json").stat().st_mtime_ns == before
    assert project.divide() == {1: ["a", "b", "d", "e", "large"], 2: ["c"]}


def test_a_damaged_file_is_none(project):
    (project.folder / "results/.batches/1.json").write_text("{")
    assert project.divide() == {2: [*"abcde", "large"]}


def shares(sizes):
    """Return how many slides each batch has."""
    sizes_by_path = {f"{number}": size for number, size in enumerate(sizes)}
    slides = [{"slide": path, "files": [path]} for path in sizes_by_path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide_batches, "_size", sizes_by_path.get)
        return [len(share) for share in slide_batches._shares(slides)]


@pytest.mark.parametrize(
    ("what", "sizes", "lowest", "highest"),
    [
        ("small images are one job", [10**6] * 40, 1, 1),
        ("a few slides may be predicted at the same time", [2**30] * 5, 5, 5),
        ("a thousand slides are tens of jobs", [2**29] * 1000, 32, 64),
        ("ten thousand small images too", [10**6] * 10_000, 32, 64),
        ("one that is too long by itself is alone", [2**34, 1, 1], 2, 2),
        ("nothing", [], 0, 0),
    ],
)
def test_how_many_jobs_there_are(what, sizes, lowest, highest):
    found = shares(sizes)
    assert lowest <= len(found) <= highest, what
    assert sum(found) == len(sizes)


def test_a_batch_takes_as_long_as_a_slide_may(project):
    minutes = [0.1 + 20 * 0.5] * 1000
    for count in shares([2**29] * 1000):
        assert sum(minutes[:count]) <= 240
